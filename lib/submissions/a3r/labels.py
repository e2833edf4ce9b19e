"""The `$` label files of a3r: one line `name$attribute$caption` per image, read strictly, split into vehicles and pedestrians.

Decisions for odd files: a byte-order mark and CRLF line ends belong to the encoding and are dropped; blank lines are skipped and
counted; anything else that is not three filled fields, a control character or an image named twice is an error with its line.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lib.errors import ConfigError, DataError
from lib.files import read_text

Kind = Literal["vehicle", "pedestrian"]
FinalDot = Literal["as_published", "corrected"]

FIELDS = ("name", "attribute", "caption")
SEPARATOR = "$"
# A pedestrian's attribute field holds exactly 21 values 0/1, whatever they mean (specs/a3r.md 1.3); 20 values make a "vehicle".
PEDESTRIAN_VALUES = 21
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST_QUOTE = 60
MOST_LINES_NAMED = 5


@dataclass(frozen=True)
class Label:
    """One line of a label file, its fields as published (the attribute still with its final dot)."""

    name: str
    attribute: str
    caption: str

    @property
    def kind(self) -> Kind:
        """The class: pedestrian if the attribute field holds exactly 21 values between commas, else vehicle."""
        return "pedestrian" if len(self.attribute.split(",")) == PEDESTRIAN_VALUES else "vehicle"


@dataclass(frozen=True)
class LabelFile:
    """What a label file holds: its labels in file order, and how many blank lines were skipped."""

    labels: tuple[Label, ...]
    blank_lines: int


def shown(text: str) -> str:
    """The text quoted for an error message, on one line and cut after 60 characters."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "...")


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, line) of a text file without byte-order mark and line ends (LF or CRLF); raises DataError if unreadable.

    NOTE str.splitlines would also split at U+2028 and form feeds, which are part of a caption.
    """
    lines = read_text(path).removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]


def read_labels(path: Path) -> LabelFile:
    """The labels of a `$` file. Raises DataError naming the first bad line, and the numbers of the others."""
    labels: list[Label] = []
    blank_lines = 0
    seen: dict[str, int] = {}
    problems: list[tuple[int, str]] = []
    for number, line in numbered_lines(path):
        if not line.strip():
            blank_lines += 1
            continue
        problem = find_line_problem(line, seen)
        if problem:
            problems.append((number, problem))
            continue
        label = Label(*line.split(SEPARATOR))
        seen[label.name] = number
        labels.append(label)
    if problems:
        raise DataError(f"{path}:{problems[0][0]}: {problems[0][1]}{_further_lines(problems[1:])}")
    if not labels:
        raise DataError(f"{path}: no label in this file; expected one line name$attribute$caption per image")
    return LabelFile(tuple(labels), blank_lines)


def find_line_problem(line: str, seen: dict[str, int]) -> str | None:
    """What is wrong with one label line, None if nothing; `seen` maps the names read so far to their line numbers."""
    fields = line.split(SEPARATOR)
    if len(fields) != len(FIELDS):
        return f"{len(fields)} field(s) between $ signs in {shown(line)}; expected 3: name$attribute$caption"
    for title, field in zip(FIELDS, fields, strict=True):
        if not field.strip():
            return f"empty {title} in {shown(line)}; expected 3 filled fields: name$attribute$caption"
        control = CONTROL.search(field)
        if control:
            return f"control character {control.group()!r} in the {title} {shown(field)}; replace it by a blank"
    if fields[0] in seen:
        return f"image {shown(fields[0])} is already on line {seen[fields[0]]}; keep one line per image"
    return None


def split_labels(labels: Iterable[Label]) -> tuple[list[Label], list[Label]]:
    """(vehicles, pedestrians), each in the order of the file."""
    vehicles: list[Label] = []
    pedestrians: list[Label] = []
    for label in labels:
        (vehicles if label.kind == "vehicle" else pedestrians).append(label)
    return vehicles, pedestrians


def cut_final_dot(text: str, *, final_dot: FinalDot) -> str:
    """The text without its final dot; `as_published` cuts the last character whatever it is ("white Audi" -> "white Aud")."""
    if final_dot == "as_published":
        return text[:-1]
    if final_dot == "corrected":
        return text.removesuffix(".")
    raise ConfigError(f"final_dot is {final_dot!r}; it is one of: as_published, corrected")


def attribute_phrase(label: Label, *, final_dot: FinalDot) -> str:
    """The attribute as the vocabulary wants it: a vehicle's first comma part without its dot, a pedestrian's 21 values as they are."""
    if label.kind == "pedestrian":
        return label.attribute
    return cut_final_dot(label.attribute.split(",")[0], final_dot=final_dot)


def _further_lines(problems: list[tuple[int, str]]) -> str:
    """The end of an error message that names the other bad lines, empty if there is none."""
    if not problems:
        return ""
    numbers = ", ".join(str(number) for number, _ in problems[:MOST_LINES_NAMED])
    return f" (and {len(problems)} more bad line(s): {numbers}{', ...' if len(problems) > MOST_LINES_NAMED else ''})"
