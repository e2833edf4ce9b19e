"""How often each type of question is answered wrong, and the weights by which the engine draws types (Adaptive Bad-case Sampling).

Published: weight = share of wrong answers, to three places, whatever the number of questions (specs/dataengine.md section 2.1), so
that a type of one wrong question weighs 1. `smoothing` and `minimum` are the kit's remedies; 0 and 0 are as published.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.errors import ConfigError, DataError
from lib.submissions.dataengine.question_types import Sample

Rule = Literal["errors", "equal"]
Result = Mapping[str, Any]  # a typed sample with the model's `model_answer`: the text of an option, None if it gave none

PLACES = 3


@dataclass(frozen=True)
class Tally:
    """How many questions of a type there were, and how many were answered wrong."""

    questions: int
    wrong: int


def is_wrong(result: Result) -> bool:
    """Whether the answer is another than the right option, apart from case, outer blanks and final full stops.

    NOTE: the published scorer lower-cases the answer only, so that an option with a capital is never right.
    """
    answer, right = result["model_answer"], result["choices"][result["correct_choice_idx"]]
    return answer is None or _fold(answer) != _fold(right)


def bad_cases(results: Iterable[Result]) -> dict[str, list[Sample]]:
    """Type -> what was answered wrong, in the order of the results; types without an error are not there."""
    cases: dict[str, list[Sample]] = {}
    for result in results:
        if is_wrong(result):
            cases.setdefault(_type_of(result), []).append(dict(result))
    return cases


def count_errors(results: Sequence[Result]) -> dict[str, Tally]:
    """Type -> questions and errors, in the order in which types first occur."""
    questions = Counter(_type_of(result) for result in results)
    wrong = Counter(_type_of(result) for result in results if is_wrong(result))
    return {type_: Tally(count, wrong[type_]) for type_, count in questions.items()}


def weigh(tallies: Mapping[str, Tally], *, rule: Rule, smoothing: float, minimum: int) -> dict[str, float]:
    """Type -> weight: its smoothed share of errors, (wrong + smoothing) / (questions + 2 smoothing); or 1 for each (the control).

    Types with fewer than `minimum` questions get no weight.
    """
    if smoothing < 0 or minimum < 0:
        raise ConfigError(f"smoothing {smoothing} and minimum {minimum}: both are counts of questions, 0 or more")
    weighed = {type_: tally for type_, tally in tallies.items() if tally.questions >= minimum}
    if rule == "equal":
        return dict.fromkeys(weighed, 1.0)
    return {type_: round((tally.wrong + smoothing) / (tally.questions + 2 * smoothing), PLACES) for type_, tally in weighed.items()}


def _type_of(result: Result) -> str:
    if "question_type" not in result:
        raise DataError(f"a result has no question_type: {result['question']!r}; sort the questions by type first")
    return result["question_type"]


def _fold(text: str) -> str:
    return text.strip().rstrip(".").lower()
