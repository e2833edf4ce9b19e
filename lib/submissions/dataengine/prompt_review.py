"""Aid for Interactive Prompt Optimisation: versions of the writer's instructions, sheets on which a person judges replies, accuracy.

The paper's loop (specs/dataengine.md section 2.4): write a small batch, let a person mark what is wrong and why, revise the
instructions, repeat until few errors are left. Nothing of it was published.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib import files
from lib.errors import ConfigError, DataError
from lib.metrics.tally import binomial_standard_error

COLUMNS = ("query_id", "version", "verdict", "reason", "reply")
RIGHT, WRONG, OPEN = "right", "wrong", ""
NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Prompt:
    """One version of the writer's instructions."""

    version: str
    text: str


@dataclass(frozen=True)
class Review:
    """A reply to judge: `verdict` is right, wrong (with a reason) or still empty; the query's id is that of its image."""

    query_id: str
    version: str
    verdict: str
    reason: str
    reply: str


@dataclass(frozen=True)
class Accuracy:
    """How many replies to one version are right, how many were judged, and how many were not yet."""

    right: int
    judged: int
    open: int

    @property
    def share(self) -> float | None:
        """Right ones among those judged; None before the first."""
        return self.right / self.judged if self.judged else None

    @property
    def standard_error(self) -> float | None:
        """Of the share, by the binomial distribution; 0 where all or none are right."""
        return binomial_standard_error(self.share, self.judged) if self.judged else None


def write_prompt(folder: Path, prompt: Prompt) -> Path:
    """Write `<version>.txt`; a version never changes. Raises ConfigError if it has another text already, or an unusable name."""
    if not NAME.fullmatch(prompt.version) or prompt.version.startswith("."):
        raise ConfigError(f"{prompt.version!r} cannot name a version of the prompt; use letters, digits, '-', '_' and '.', such as v2")
    path = folder / f"{prompt.version}.txt"
    if path.is_file() and files.read_text(path) != prompt.text:
        raise ConfigError(f"{path}: version {prompt.version!r} has another text already; give the changed prompt a version of its own")
    files.write_text(path, prompt.text)
    return path


def read_prompt(folder: Path, version: str) -> Prompt:
    """A version that was written. Raises ConfigError, naming those that there are, for any other."""
    known = sorted(path.stem for path in folder.glob("*.txt"))
    if version not in known:
        raise ConfigError(f"{folder}: no version {version!r} of the prompt; there are: {', '.join(known) or 'none'}")
    return Prompt(version, files.read_text(folder / f"{version}.txt"))


def sample(replies: Sequence[Mapping[str, Any]], version: str, *, count: int, seed: int) -> list[Review]:
    """So many replies to judge, or all if there are fewer, drawn without repetition, in their order; failed requests are left out."""
    written = [reply for reply in replies if reply["raw_instructions"] is not None]
    chosen = np.random.default_rng(seed).permutation(len(written))[:count]
    return [Review(str(written[place]["image_id"]), version, OPEN, "", written[place]["raw_instructions"]) for place in sorted(chosen)]


def write_sheet(path: Path, reviews: Iterable[Review]) -> None:
    """Write the sheet as CSV, whole or not at all."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(review, name) for name in COLUMNS] for review in reviews)
    files.write_text(path, stream.getvalue())


def read_sheet(path: Path) -> list[Review]:
    """The reviews of a sheet, blanks around verdicts and reasons stripped. Raises DataError with the row that cannot be used.

    Rows count from 1 below the heading, as replies have several lines.
    """
    heading, *rows = list(csv.reader(io.StringIO(files.read_text(path).removeprefix("\ufeff"), newline=""))) or [[]]
    if tuple(heading) != COLUMNS:
        raise DataError(f"{path}: columns {', '.join(heading) or 'none'}; a review sheet has: {', '.join(COLUMNS)}")
    return [_read_row(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1) if row]


def measure(reviews: Iterable[Review]) -> dict[str, Accuracy]:
    """Version -> its accuracy, in the order in which versions first occur."""
    verdicts: dict[str, list[str]] = {}
    for review in reviews:
        verdicts.setdefault(review.version, []).append(review.verdict)
    return {version: Accuracy(found.count(RIGHT), len(found) - found.count(OPEN), found.count(OPEN)) for version, found in verdicts.items()}


def _read_row(row: Sequence[str], where: str) -> Review:
    if len(row) != len(COLUMNS):
        raise DataError(f"{where}: {len(row)} cells, not {len(COLUMNS)}; put a text that has commas into quotes")
    query_id, version, verdict, reason, reply = row
    verdict, reason = verdict.strip().lower(), reason.strip()
    if verdict not in (RIGHT, WRONG, OPEN):
        raise DataError(f"{where}: verdict {verdict!r}; write {RIGHT} or {WRONG}, or leave it empty for later")
    if verdict == WRONG and not reason:
        raise DataError(f"{where}: {WRONG} without a reason; say what is wrong, as the next prompt is written from the reasons")
    return Review(query_id, version, verdict, reason, reply)
