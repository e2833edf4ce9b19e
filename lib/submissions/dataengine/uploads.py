"""The files that servers, judges and official tools take, written from the answers as the published scripts write them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lib import files
from lib.metrics import gqa, judged, multiple_choice, scienceqa, vqa, yes_no
from lib.submissions.dataengine import scoring

FOLDER = "answers_upload"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
Lines = Sequence[dict]


def write(benchmark: str, references: Any, lines: Lines, folder: Path) -> list[Path]:
    """The files of one benchmark below `folder`; none for one that nobody takes answers of.

    Raises DataError where a server takes complete lists only and an answer is missing.
    """
    if benchmark not in _WRITERS:
        return []
    return _WRITERS[benchmark](references, lines, folder / FOLDER / benchmark)


def _by_question(lines: Lines) -> dict[Any, str]:
    return {line["question_id"]: line["text"] for line in lines}


def _seed(annotation: Any, lines: Lines, folder: Path) -> list[Path]:
    target = folder / "seed-bench.jsonl"
    files.write_jsonl(target, multiple_choice.seed_upload(annotation, _by_question(lines)))
    return [target]


def _mmbench(rows: Any, lines: Lines, folder: Path) -> list[Path]:
    """MMBench's server takes a spreadsheet, which cannot hold the control characters that an answer may."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    header, sheet = multiple_choice.mmbench_sheet(rows, _by_question(lines))
    book = Workbook()
    for cells in (header, *sheet):
        book.active.append([ILLEGAL_CHARACTERS_RE.sub(UNKNOWN, cell) if isinstance(cell, str) else cell for cell in cells])
    target = folder / "mmbench_dev_20230712.xlsx"
    folder.mkdir(parents=True, exist_ok=True)
    book.save(target)
    return [target]


def _mme(truth: Any, lines: Lines, folder: Path) -> list[Path]:
    """A text file per category, as the official calculation reads them."""
    written = []
    for category, rows in scoring.mme_rows(truth, lines).items():
        written.append(folder / f"{category}.txt")
        files.write_text(written[-1], "".join(f"{line}\n" for line in yes_no.mme_lines(rows)))
    return written


def _gqa(questions: Any, lines: Lines, folder: Path) -> list[Path]:
    target = folder / "testdev_balanced_predictions.json"
    files.write_json(target, gqa.gqa_predictions(_by_question(lines)))
    return [target]


def _vqav2(split: Any, lines: Lines, folder: Path) -> list[Path]:
    """The whole of test2015 in its order; what was not asked is empty."""
    target = folder / "llava_vqav2_mscoco_test-dev2015.json"
    files.write_json(target, vqa.vqav2_upload([one["question_id"] for one in split], _by_question(lines)))
    return [target]


def _scienceqa(documents: Any, lines: Lines, folder: Path) -> list[Path]:
    found = scienceqa.score_scienceqa(documents["problems"], documents["splits"]["test"], lines)
    written = {folder / "output.jsonl": scienceqa.scienceqa_output(found), folder / "result.json": scienceqa.scienceqa_result(found)}
    for target, content in written.items():
        files.write_json(target, content)
    return list(written)


def _vizwiz(questions: Any, lines: Lines, folder: Path) -> list[Path]:
    """The questions of the upload are those of the answer file, whose pictures the question file names."""
    target = folder / "vizwiz.json"
    asked = [{"question_id": line["question_id"], "image": one["image"]} for line, one in zip(lines, questions, strict=True)]
    files.write_json(target, vqa.vizwiz_upload(asked, _by_question(lines)))
    return [target]


def _mm_vet(questions: Any, lines: Lines, folder: Path) -> list[Path]:
    target = folder / "mm-vet.json"
    files.write_json(target, judged.mm_vet_answers(_by_question(lines)))
    return [target]


_WRITERS: dict[str, Callable[[Any, Lines, Path], list[Path]]] = {
    "seed": _seed,
    "mmbench": _mmbench,
    "mme": _mme,
    "gqa": _gqa,
    "vqav2": _vqav2,
    "scienceqa": _scienceqa,
    "vizwiz": _vizwiz,
    "mm-vet": _mm_vet,
}
