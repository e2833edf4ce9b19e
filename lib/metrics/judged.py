"""Answers that a language model judges: LLaVA-Bench's reviews and their summary, MM-Vet's answer file.

Definitions: dataengine specification, section 7.7.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lib.errors import DataError
from lib.metrics.tally import QuestionId, Record

Unreadable = Literal["as_published", "corrected"]
Scores = tuple[float, float]  # reference, model

UNREADABLE: Scores = (-1.0, -1.0)


@dataclass(frozen=True)
class JudgedSummary:
    """A category's mean scores out of 10, the number of reviews they come from and of those without readable scores."""

    reference: float
    model: float
    reviews: int
    unreadable: int

    @property
    def relative(self) -> float | None:
        """100 x model / reference, from means rounded to three decimals as published; None if the reference has 0."""
        reference = round(self.reference, 3)
        return round(self.model, 3) / reference * 100 if reference else None

    @property
    def row(self) -> tuple[float | None, float, float]:
        """The published row: relative score, reference and model out of 100, one decimal each."""
        relative = self.relative
        return None if relative is None else round(relative, 1), *(round(10 * round(mean, 3), 1) for mean in (self.reference, self.model))


def review_scores(review: str) -> Scores:
    """The two numbers on the review's first line, one blank or comma between them; `UNREADABLE` for any other line."""
    parts = review.partition("\n")[0].replace(",", " ").split(" ")
    try:
        reference, model = map(float, parts)
    except ValueError:
        return UNREADABLE
    return (reference, model) if math.isfinite(reference) and math.isfinite(model) else UNREADABLE


def summarise_reviews(reviews: Sequence[Record], *, unreadable: Unreadable) -> dict[str, JudgedSummary]:
    """category -> summary, `all` among them, in alphabetical order. A review holds `tuple`, or `score`, and may hold `category`.

    `as_published` averages the -1 of unreadable reviews; `corrected` leaves them out, and a category with no others as well.
    """
    if unreadable not in ("as_published", "corrected"):
        raise DataError(f"unreadable reviews cannot be {unreadable!r}; they can be: as_published, corrected")
    groups: dict[str, list[Scores]] = {}
    for review in reviews:
        scores = _recorded_scores(review)
        for category in ("all", review["category"]) if "category" in review else ("all",):
            groups.setdefault(category, []).append(scores)
    summaries = {category: _summarise(groups[category], unreadable) for category in sorted(groups)}
    return {category: summary for category, summary in summaries.items() if summary is not None}


def mm_vet_answers(predictions: Mapping[QuestionId, str]) -> dict[str, str]:
    """The content of the file that MM-Vet's server takes: `v1_<id>` -> answer."""
    return {f"v1_{question_id}": text for question_id, text in predictions.items()}


def _recorded_scores(review: Record) -> Scores:
    scores = review.get("tuple", review.get("score"))
    if not isinstance(scores, list | tuple) or len(scores) != 2 or not all(isinstance(score, int | float) for score in scores):
        raise DataError(
            f"review of question {review.get('question_id')!r} has scores {scores!r}; two numbers are needed, reference and model, judge it again"
        )
    return scores[0], scores[1]


def _summarise(scores: Sequence[Scores], unreadable: Unreadable) -> JudgedSummary | None:
    readable = [pair for pair in scores if pair != UNREADABLE]
    counted = scores if unreadable == "as_published" else readable
    if not counted:
        return None
    reference, model = (_mean(column) for column in zip(*counted, strict=True))
    return JudgedSummary(reference, model, len(counted), len(scores) - len(readable))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
