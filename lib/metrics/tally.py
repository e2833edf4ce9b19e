"""What the benchmark scorers share: marks counted into tallies with their standard errors, questions matched with answers by id."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lib.errors import DataError

Key = TypeVar("Key")
Record = Mapping[str, Any]
QuestionId = int | str
Mark = float | None  # 0 to 1; None for a question without an answer


@dataclass(frozen=True)
class Tally:
    """Right answers among all questions; a question without an answer is wrong, and counted in `unanswered` as well."""

    correct: float  # a whole number, or the sum of soft marks
    total: int
    unanswered: int = 0

    @property
    def percent(self) -> float | None:
        """The share of right answers, in percent; None without a question."""
        return self.correct / self.total * 100 if self.total else None

    @property
    def standard_error(self) -> float | None:
        """The binomial standard error of `percent`, in the same unit; for soft marks an upper bound. None without a question."""
        return binomial_standard_error(self.correct / self.total, self.total) * 100 if self.total else None


def binomial_standard_error(share: float, count: int) -> float:
    """sqrt(p (1 - p) / n) of a share p of n answers; MMBench's 66.66 % of 1,164 questions gives 0.0138."""
    if not 0 <= share <= 1 or count < 1:
        raise DataError(f"standard error of a share of {share} among {count}; a share is 0 to 1, of at least 1 answer")
    return math.sqrt(share * (1 - share) / count)


def count_marks(marks: Iterable[Mark]) -> Tally:
    """The tally of marks."""
    listed = list(marks)
    return Tally(sum(mark for mark in listed if mark is not None), len(listed), listed.count(None))


def count_by(marks: Iterable[tuple[Key, Mark]]) -> dict[Key, Tally]:
    """key -> the tally of its marks, keys in the order of their first mark."""
    groups: dict[Key, list[Mark]] = {}
    for key, mark in marks:
        groups.setdefault(key, []).append(mark)
    return {key: count_marks(own) for key, own in groups.items()}


def question_key(question_id: QuestionId) -> QuestionId:
    """The id as a number where it is one, so that 101 and "101" name the same question."""
    try:
        return int(question_id)
    except ValueError:
        return question_id


def texts_by_question(predictions: Mapping[QuestionId, str]) -> dict[QuestionId, str]:
    """The predictions under `question_key`. Raises DataError for a prediction that is no text and for ids that become one."""
    found = {}
    for question_id, text in predictions.items():
        key = question_key(question_id)
        if not isinstance(text, str):
            raise DataError(f"the prediction of question {question_id!r} is {text!r}; it has to be text, infer the question again")
        if key in found:
            raise DataError(f"question {key!r} has two predictions, the second under {question_id!r}; keep one of them")
        found[key] = text
    return found


def field(record: Record, name: str, thing: str) -> Any:
    """`record[name]`. Raises DataError that names the thing and lists what it has instead."""
    if name not in record:
        raise DataError(
            f"{thing} has no {name!r}; it has: {', '.join(map(str, record)) or 'nothing'}; compare with the benchmark's own file"
        )
    return record[name]
