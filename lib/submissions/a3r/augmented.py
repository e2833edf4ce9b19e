"""The augmented label file: `name$attribute$caption$chosen` per vehicle, appended batch by batch, resumed, and audited."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lib.errors import DataError
from lib.files import cut_last_line, disk_full, read_text, write_bytes
from lib.submissions.a3r.candidates import (
    KINDS,
    Attributes,
    Convention,
    bare_caption,
    build_choices,
    known_attributes,
    output_line,
)
from lib.submissions.a3r.labels import CONTROL, SEPARATOR, Label, numbered_lines, shown
from lib.submissions.a3r.vocabulary import Vocabulary

FIELDS = ("name", "attribute", "caption", "choice")


@dataclass(frozen=True)
class AugmentedRow:
    """One line of the augmented file, as written."""

    name: str
    attribute: str
    caption: str
    chosen: str

    @property
    def line(self) -> str:
        """The row as a line, without line end."""
        return SEPARATOR.join((self.name, self.attribute, self.caption, self.chosen))


@dataclass(frozen=True)
class AugmentedFile:
    """The rows of an augmented file in file order, and how many blank lines were skipped."""

    rows: tuple[AugmentedRow, ...]
    blank_lines: int


@dataclass(frozen=True)
class Audit:
    """What augmentation did. `filled` counts, per kind and value, what the choice added to the caption (most frequent first).

    `outside` names the images whose choice is no candidate of their caption, `changed` those whose choice lost or altered a part
    that the caption names, `incomplete` those whose choice still lacks colour, brand or type.
    """

    rows: int
    distinct_choices: int
    filled: dict[str, dict[str, int]]
    outside: tuple[str, ...]
    changed: tuple[str, ...]
    incomplete: tuple[str, ...]

    @property
    def brand_filled(self) -> bool:
        """Whether any brand was invented, which the README rules out."""
        return bool(self.filled["brands"])


def build_row(label: Label, chosen: str, *, convention: Convention) -> AugmentedRow:
    """The row of a label and its chosen completion, dots as the convention writes them."""
    return AugmentedRow(*output_line(label, chosen, convention=convention).split(SEPARATOR))


def read_augmented(path: Path) -> AugmentedFile:
    """The rows of a finished augmented file.

    Raises DataError naming the line for a wrong number of fields, an empty field, an image named twice, and for a last line
    without line end: it may be cut inside a word, and only `AugmentedAppender` can complete it.
    """
    if not read_text(path).endswith("\n"):
        raise DataError(f"{path}: the last line has no line end, so it may be half-written; run the augmentation again, it will resume")
    rows: dict[str, AugmentedRow] = {}
    blank_lines = 0
    for number, line in numbered_lines(path):
        if not line.strip():
            blank_lines += 1
            continue
        row = _parse_row(path, number, line)
        if row.name in rows:
            raise DataError(f"{path}:{number}: image {shown(row.name)} is augmented twice; remove one of the two lines")
        rows[row.name] = row
    return AugmentedFile(tuple(rows.values()), blank_lines)


def write_augmented(path: Path, rows: Iterable[AugmentedRow]) -> None:
    """Write all rows at once, whole or not at all; a line end after each."""
    write_bytes(path, _encode_rows(rows))


class AugmentedAppender:
    """Appends rows to an augmented file and takes up where an earlier run stopped; use it in a `with` block.

    `done` maps the images already there to their rows; `dropped` is 1 if a half-written last line was cut off, else 0.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped = int(cut_last_line(path))
        rows = read_augmented(path).rows if path.is_file() and path.stat().st_size else ()
        self.done: dict[str, AugmentedRow] = {row.name: row for row in rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: after a full disk nothing may stay behind that closing the file would try to write once more.
        self._stream = path.open("ab", buffering=0)

    def append(self, rows: Iterable[AugmentedRow]) -> int:
        """Write the rows whose image is not there yet, flushed to disk; returns how many. Raises DataError for another caption."""
        fresh: dict[str, AugmentedRow] = {}
        for row in rows:
            known = self.done.get(row.name) or fresh.get(row.name)
            if known is None:
                fresh[row.name] = row
            elif (known.attribute, known.caption) != (row.attribute, row.caption):
                raise DataError(
                    f"{self.path}: image {shown(row.name)} is there with the caption {shown(known.caption)}, now it has "
                    f"{shown(row.caption)}; the file belongs to other labels, remove it and start again"
                )
        self._write(_encode_rows(fresh.values()))
        self.done.update(fresh)
        return len(fresh)

    def _write(self, content: bytes) -> None:
        """Append the bytes and flush them to disk; on failure the file is as before. Raises DiskFull."""
        size = self._stream.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(content):
                written += self._stream.write(content[written:])
            os.fsync(self._stream.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._stream.truncate(size)
            raise disk_full(error, self.path.parent) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def audit_augmented(rows: Iterable[AugmentedRow], vocabulary: Vocabulary, *, convention: Convention) -> Audit:
    """Compare every choice with its caption. Parts are read as whole phrases: a "Balong Heavy Truck" has a brand and no type."""
    rows = tuple(rows)
    filled: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    outside, changed, incomplete = [], [], []
    choices: dict[str, frozenset[str]] = {}
    for row in rows:
        if row.caption not in choices:
            choices[row.caption] = frozenset(build_choices(row.caption, vocabulary, convention=convention))
        if bare_caption(row.chosen, convention=convention) not in choices[row.caption]:
            outside.append(row.name)
        before = known_attributes(row.caption, vocabulary, convention="readme")
        after = known_attributes(row.chosen, vocabulary, convention="readme")
        if _altered(before, after):
            changed.append(row.name)
        if after.missing:
            incomplete.append(row.name)
        for kind in before.missing - after.missing:
            filled[kind].update(getattr(after, kind))
    return Audit(
        rows=len(rows),
        distinct_choices=len({row.chosen for row in rows}),
        filled={kind: dict(counts.most_common()) for kind, counts in filled.items()},
        outside=tuple(outside),
        changed=tuple(changed),
        incomplete=tuple(incomplete),
    )


def _altered(before: Attributes, after: Attributes) -> bool:
    """Whether a part that was known is another one now."""
    return any(getattr(before, kind) != getattr(after, kind) for kind in KINDS if kind not in before.missing)


def _parse_row(path: Path, number: int, line: str) -> AugmentedRow:
    """The row in one line; raises DataError if it has not four filled fields."""
    fields = line.split(SEPARATOR)
    if len(fields) != len(FIELDS):
        raise DataError(
            f"{path}:{number}: {len(fields)} field(s) between $ signs in {shown(line)}; expected 4: name$attribute$caption$choice"
        )
    for title, field in zip(FIELDS, fields, strict=True):
        if not field.strip():
            raise DataError(f"{path}:{number}: empty {title} in {shown(line)}; expected 4 filled fields: name$attribute$caption$choice")
        control = CONTROL.search(field)
        if control:
            raise DataError(f"{path}:{number}: control character {control.group()!r} in the {title} {shown(field)}; replace it by a blank")
    return AugmentedRow(*fields)


def _encode_rows(rows: Iterable[AugmentedRow]) -> bytes:
    """The lines of the rows as UTF-8, LF after each."""
    return "".join(f"{row.line}\n" for row in rows).encode("utf-8")
