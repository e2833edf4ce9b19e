"""Accuracy of multiple-choice answers by question: equal letters, whatever their case; what is missing is wrong but counted apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from lib.errors import DataError


@dataclass(frozen=True)
class ChoiceScore:
    """How many questions were answered right, answered wrong and not answered."""

    correct: int
    wrong: int
    missing: int

    @property
    def accuracy(self) -> float:
        """The share of right answers among all questions, 0 to 1."""
        return self.correct / (self.correct + self.wrong + self.missing)


def score_choices(references: Mapping[str, str], answers: Mapping[str, str | None]) -> ChoiceScore:
    """Compare answers with references by question; None is no answer, blanks are not stripped, further answers do not count."""
    if not references:
        raise DataError("no reference answer to compare with; give the ground truth of at least one question")
    given = {question: answers.get(question) for question in references}
    missing = sum(answer is None for answer in given.values())
    correct = sum(answer is not None and answer.lower() == references[question].lower() for question, answer in given.items())
    return ChoiceScore(correct, len(references) - correct - missing, missing)
