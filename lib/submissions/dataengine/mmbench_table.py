"""MMBench's table: one row per rotation of a question's options, the picture as base64 text in a cell of its own.

The original reads it with pandas, which takes certain words for missing cells; so does this reader, for the options that such a word
ends are part of the published prompts (dataengine specification, section 7.2). A missing cell is empty text here.
"""

import base64
import binascii
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from lib import files
from lib.errors import DataError
from lib.metrics.multiple_choice import ROTATION, mmbench_options
from lib.submissions.dataengine.wording import by_letter

TABLE = "eval/mmbench/mmbench_dev_20230712.tsv"
REQUIRED = ("index", "question", "A", "image")

# Cells that pandas 2 reads as missing; the original takes nan and none in any other case for missing too, but in options only.
MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
}  # fmt: skip


def read_rows(path: Path) -> list[dict]:
    """The rows without the column of pictures: `index` a number, all else text, columns that the table lacks left out.

    `category` and `hint`, which prompts and reports need, are empty if the table has no such column.
    """
    rows = []
    for _, row in _cells(path):
        kept = {name: "" if cell in MISSING else cell for name, cell in row.items() if name != "image"}
        rows.append({"category": "", "hint": ""} | kept | {"index": int(row["index"])})
    return rows


def options(row: dict) -> list[str]:
    """The options A to D up to the first that is missing."""
    return list(mmbench_options({name: "" if cell in MISSING else cell for name, cell in row.items()}).values())


def user_turn(row: dict, *, words: str = "{}") -> str:
    """The hint on a line of its own if there is one, the question in these words, options, and the request for a letter."""
    hint = row.get("hint", "")
    is_missing = hint in MISSING or hint.lower() in ("nan", "none")
    question = words.format(row["question"])
    return by_letter(question if is_missing else f"{hint}\n{question}", options(row))


def picture_name(index: int) -> str:
    """Where `unpack_pictures` puts the picture of a question; all its rotations have the same."""
    return f"eval/mmbench/images/{index % ROTATION}.jpg"


def unpack_pictures(path: Path, folder: Path) -> None:
    """Write the picture of every question below the folder. Raises DataError, naming the line, for a cell that is not base64."""
    done = set()
    for line, row in _cells(path):
        target = folder / picture_name(int(row["index"]))
        if target in done:
            continue
        try:
            content = base64.b64decode(row["image"], validate=True)
        except binascii.Error as error:
            raise DataError(f"{path}:{line}: image is not base64 ({error}); bring the published file") from None
        files.write_bytes(target, content)
        done.add(target)


def _cells(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows as text and the number of the line that each ends in. Raises DataError for a row or header that is malformed."""
    text = files.read_text(path)
    limit = csv.field_size_limit(sys.maxsize)  # pictures are larger than the module's usual limit
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
        header = next(reader, [])
        lacking = [name for name in REQUIRED if name not in header]
        if lacking:
            raise DataError(f"{path}:1: no column {', '.join(lacking)}; the columns are: {', '.join(header)}")
        for cells in reader:
            if len(cells) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(cells)} cells, expected {len(header)}; is the file cut off? bring it again"
                )
            row = dict(zip(header, cells, strict=True))
            if not row["index"].isdecimal():
                raise DataError(f"{path}:{reader.line_num}: index is {row['index']!r}, expected a whole number; bring the published file")
            yield reader.line_num, row
    finally:
        csv.field_size_limit(limit)
