"""The tab-separated tables of a3r: split labels (name, attribute, caption) and training tables (filepath, title).

Cells are text and stay text: "NA", "None" and "007" survive. Lines end in LF; readers take CRLF too.
"""

import csv
import io
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.errors import ConfigError, DataError
from lib.files import read_text, write_text
from lib.submissions.a3r.labels import SEPARATOR, FinalDot, Label, attribute_phrase, numbered_lines, shown
from lib.submissions.a3r.vocabulary import image_kind

COLUMNS = ("filepath", "title")


@dataclass(frozen=True)
class Row:
    """One training pair: path of the picture and its caption."""

    filepath: str
    title: str


@dataclass(frozen=True)
class Table:
    """A training table: all columns of its header, and the pairs that training reads from it."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Counts:
    """How many rows of a table show a vehicle and how many a pedestrian."""

    vehicles: int
    pedestrians: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.vehicles + self.pedestrians


def write_split(path: Path, labels: Iterable[Label], *, final_dot: FinalDot) -> None:
    """Write labels of one kind as name<TAB>attribute<TAB>caption, no header; the vehicle attribute loses its dot (specs/a3r.md 1.5)."""
    write_text(path, _tsv((label.name, attribute_phrase(label, final_dot=final_dot), label.caption) for label in labels))


def read_split(path: Path) -> list[Label]:
    """The labels of a split file. Raises DataError with the line that has not three cells."""
    labels = []
    for number, cells in _read_cells(path, "\t"):
        if len(cells) != 3:
            raise DataError(f"{path}:{number}: {len(cells)} cell(s) in {shown(cells[0])} ...; expected 3: name, attribute, caption")
        labels.append(Label(*cells))
    return labels


def read_vehicle_rows(path: Path, folder: str, *, separator: str = SEPARATOR) -> tuple[list[Row], int]:
    """(rows, skipped blank lines) of an augmented file: first field = image below `folder`, LAST field = caption.

    A plain label file works as well (its last field is the caption), so augmentation can be left out.
    """
    rows = []
    blank_lines = 0
    for number, line in numbered_lines(path):
        if not line.strip():
            blank_lines += 1
            continue
        fields = line.split(separator)
        if len(fields) == 1 or not fields[0].strip() or not fields[-1].strip():
            raise DataError(f"{path}:{number}: no name or no caption in {shown(line)}; expected name{separator}...{separator}caption")
        rows.append(Row(posixpath.join(folder, fields[0]), fields[-1]))
    return rows, blank_lines


def label_rows(labels: Iterable[Label], folder: str) -> list[Row]:
    """Rows of labels as they are, captions with their final dot: the pedestrians of a training table."""
    return [Row(posixpath.join(folder, label.name), label.caption) for label in labels]


def build_table(rows: Iterable[Row]) -> Table:
    """A training table of these rows, order kept."""
    return Table(COLUMNS, tuple(rows))


def merge_tables(vehicles: Table, pedestrians: Table) -> Table:
    """One table, vehicles first, nothing shuffled or dropped. Raises DataError unless both have exactly filepath and title."""
    for name, table in (("vehicle", vehicles), ("pedestrian", pedestrians)):
        if table.columns != COLUMNS:
            raise DataError(f"{name} table has the columns {', '.join(table.columns)}; to be merged it must have: {', '.join(COLUMNS)}")
    return build_table(vehicles.rows + pedestrians.rows)


def write_table(path: Path, table: Table) -> None:
    """Write filepath<TAB>title and the rows; cells that hold a quotation mark are quoted, so that pandas reads the same text."""
    write_text(path, _tsv([COLUMNS, *((row.filepath, row.title) for row in table.rows)]))


def read_table(path: Path, *, separator: str = "\t") -> Table:
    r"""The training table of a file; the two characters `\t` mean a tab, as on open_clip's command line.

    Raises DataError for missing columns, rows longer or shorter than the header, and empty cells in filepath or title.
    """
    cells_by_line = _read_cells(path, separator)
    if not cells_by_line:
        raise DataError(f"{path}: empty file; expected a header with filepath and title, then one row per picture")
    header_line, columns = cells_by_line[0]
    for column in COLUMNS:
        if column not in columns:
            raise DataError(f"{path}:{header_line}: no column {column!r} in the header; it has: {', '.join(map(shown, columns))}")
    positions = [columns.index(column) for column in COLUMNS]
    rows = [_read_row(path, number, cells, columns, positions) for number, cells in cells_by_line[1:]]
    return Table(tuple(columns), tuple(rows))


def _read_row(path: Path, number: int, cells: list[str], columns: list[str], positions: Sequence[int]) -> Row:
    """The pair in one line of a training table; raises DataError if cells are missing, too many or empty."""
    if len(cells) != len(columns):
        # NOTE pandas takes surplus cells for an index: an unquoted comma silently shifts the caption (specs/a3r.md 10, point 8).
        raise DataError(f"{path}:{number}: {len(cells)} cell(s) where the header has {len(columns)}; quote a cell that holds the separator")
    for column, position in zip(COLUMNS, positions, strict=True):
        if not cells[position].strip():
            raise DataError(f"{path}:{number}: empty {column}; every row needs a picture and a caption")
    return Row(*(cells[position] for position in positions))


def count_rows(table: Table) -> Counts:
    """How many rows are vehicles and pedestrians, told by the picture's name."""
    kinds = [image_kind(posixpath.basename(row.filepath)) for row in table.rows]
    return Counts(kinds.count("vehicle"), kinds.count("pedestrian"))


def compare_counts(counts: Counts, expected: Counts) -> list[str]:
    """One sentence per count that differs from the expected one; empty if all agree."""
    pairs = {part: (getattr(counts, part), getattr(expected, part)) for part in ("vehicles", "pedestrians", "total")}
    return [f"{part}: {found:,} rows, expected {right:,} ({found - right:+,})" for part, (found, right) in pairs.items() if found != right]


def _tsv(rows: Iterable[Sequence[str]]) -> str:
    """The rows as tab-separated text with LF line ends."""
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _read_cells(path: Path, separator: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of a separated file, blank lines left out. Raises DataError where quoting is broken."""
    separator = "\t" if separator == r"\t" else separator
    if len(separator) != 1:
        raise ConfigError(f"separator is {separator!r}; it must be one character (or \\t for a tab)")
    reader = csv.reader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""), delimiter=separator, strict=True)
    rows = []
    try:
        for cells in reader:
            if cells:
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a readable row ({error}); is a quotation mark left open?") from None
    return rows
