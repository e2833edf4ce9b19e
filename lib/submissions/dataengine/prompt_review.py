"""Aid for Interactive Prompt Optimisation: versions of the writer's instructions, sheets on which a person judges replies, accuracy.

The paper's loop (specs/dataengine.md section 2.4): write a small batch, let a person mark what is wrong and why, revise the
instructions, repeat until few errors are left. Nothing of it was published. As a program, `python -m
lib.submissions.dataengine.prompt_review SHEET...`, it prints how many replies to each version a person found right.
"""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib import config, files
from lib.errors import DataError, KitError
from lib.metrics.tally import binomial_standard_error

COMMAND = "python -m lib.submissions.dataengine.prompt_review"
PUBLISHED_RULES = "published-rules.txt"  # in the kit's own words
COLUMNS = ("query_id", "version", "verdict", "reason", "reply")
RIGHT, WRONG, OPEN = "right", "wrong", ""
DIGITS = 8  # of a text's digest


@dataclass(frozen=True)
class Prompt:
    """The writer's instructions, as sent before what is known of a picture, and the name of this version of them."""

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


def read_prompt(path: Path | None) -> Prompt:
    """The instructions in a text file; without one the published rules. Raises DataError if there are none in it.

    A version is named by its file and by the beginning of its text's digest, so that a changed text is another version.
    """
    path = path or config.config_file("dataengine").with_name(PUBLISHED_RULES)
    text = files.read_text(path)
    if not text.strip():
        raise DataError(f"{path}: no instructions in it; write what the writer is to do, as {PUBLISHED_RULES} of the submission does")
    return Prompt(f"{path.stem}-{files.digest(text)[:DIGITS]}", text)


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


def read_sheets(places: Iterable[Path]) -> list[Review]:
    """The reviews of sheets, and of the sheets (.csv) in folders, by name. Raises DataError for a folder without any.

    A reply that is on two sheets counts once, by the sheet on which it was judged; where both judge it, they have to agree.
    """
    found: dict[tuple[str, ...], Review] = {}
    for sheet in [sheet for place in places for sheet in _sheets(place)]:
        for review in read_sheet(sheet):
            reply = (review.version, review.query_id, review.reply)
            before = found.get(reply, review)
            if OPEN not in (before.verdict, review.verdict) and before.verdict != review.verdict:
                raise DataError(
                    f"{sheet}: {review.verdict} for a reply to {review.version} about picture {review.query_id}, which another "
                    f"sheet has as {before.verdict}; agree on one"
                )
            found[reply] = review if before.verdict == OPEN else before
    return list(found.values())


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


def _sheets(place: Path) -> list[Path]:
    """A sheet, or the sheets in a folder."""
    sheets = sorted(place.glob("*.csv")) if place.is_dir() else [place]
    if not sheets:
        raise DataError(f"{place}: no sheet in it; put copies of 02's review.csv there, with verdicts")
    return sheets


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


def main(arguments: list[str]) -> int:
    """Print the accuracy of each version by the verdicts on these sheets; a refusal is one line."""
    try:
        found = measure(read_sheets(map(Path, arguments)))
    except KitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for version, accuracy in found.items():
        share = (
            "nothing judged yet" if accuracy.share is None else f"{accuracy.share:.1%} right, standard error {accuracy.standard_error:.1%}"
        )
        sys.stdout.write(f"{version}: {share} ({accuracy.right} of {accuracy.judged} judged, {accuracy.open} open)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
