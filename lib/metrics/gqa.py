"""GQA: predictions in the official form, and the official evaluator's scores. Definitions: dataengine specification, section 7.4."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lib.errors import DataError
from lib.metrics.tally import Record, Tally, count_by, count_marks, field

Questions = Mapping[str, Record]

# Steps that ask for the answer do not count as reasoning (official eval.py).
ASKING_STEPS = ("exist", "query: name", "choose name")
# What the official evaluator takes for the choices of questions whose detailed type has "Common" in it.
COMMON_CHOICES = ("color", "material", "shape")


@dataclass(frozen=True)
class GqaScore:
    """The official scores over the balanced questions; only `accuracy` is reported. None where nothing could be scored.

    `distribution` is chi-square / 100, weighted by group size (lower is better); `consistency` is in percent.
    """

    accuracy: Tally
    open: Tally
    binary: Tally
    validity: Tally | None
    plausibility: Tally | None
    consistency: float | None
    distribution: float | None
    by_structure: dict[str, Tally]
    by_meaning: dict[str, Tally]
    by_steps: dict[int, Tally]
    by_words: dict[int, Tally]


def gqa_prediction(text: str) -> str:
    """The answer as it is compared: dots at its end removed, lower-cased, blanks kept."""
    return text.rstrip(".").lower()


def gqa_predictions(answers: Mapping[str, str]) -> list[dict]:
    """The content of the predictions file of the official evaluator."""
    return [{"questionId": question_id, "prediction": gqa_prediction(text)} for question_id, text in answers.items()]


def score_gqa(questions: Questions, answers: Mapping[str, str], *, choices: Questions | None = None, consistency: bool = False) -> GqaScore:
    """The official scores of answers as the model gave them.

    Without `choices`, which testdev lacks, validity and plausibility are None, where the evaluator prints 0. As there, every
    balanced question needs an answer, and with `consistency` every question.
    """
    for question_id, question in questions.items():
        needed = field(question, "isBalanced", f"GQA question {question_id!r}") or consistency
        if needed and question_id not in answers:
            raise DataError(f"GQA question {question_id!r} has no prediction; the official evaluator needs all of them, infer it first")
    given = {question_id: gqa_prediction(answers[question_id]) for question_id in questions if question_id in answers}
    balanced = {question_id: question for question_id, question in questions.items() if question["isBalanced"]}
    marks = {question_id: float(given[question_id] == _answer(questions, question_id)) for question_id in balanced}
    structure = {question_id: _type(question_id, question, "structural") for question_id, question in balanced.items()}
    meaning = {question_id: _type(question_id, question, "semantic") for question_id, question in balanced.items()}

    def grouped(groups: Mapping[str, str | int]) -> dict:
        return dict(sorted(count_by((groups[question_id], mark) for question_id, mark in marks.items()).items()))

    return GqaScore(
        accuracy=count_marks(marks.values()),
        open=count_marks(mark for question_id, mark in marks.items() if structure[question_id] == "query"),
        binary=count_marks(mark for question_id, mark in marks.items() if structure[question_id] != "query"),
        validity=_share_among(balanced, given, choices, "valid"),
        plausibility=_share_among(balanced, given, choices, "plausible"),
        consistency=_consistency(questions, given, marks) if consistency else None,
        distribution=_distribution(balanced, given),
        by_structure=grouped(structure),
        by_meaning=grouped(meaning),
        by_steps=grouped({question_id: _steps(question_id, question) for question_id, question in balanced.items()}),
        by_words=grouped({question_id: _words(question_id, question) for question_id, question in balanced.items()}),
    )


def _answer(questions: Questions, question_id: str) -> str:
    return field(questions[question_id], "answer", f"GQA question {question_id!r}")


def _type(question_id: str, question: Record, name: str) -> str:
    thing = f"GQA question {question_id!r}"
    return field(field(question, "types", thing), name, f"the field types of {thing}")


def _words(question_id: str, question: Record) -> int:
    return len(field(question, "question", f"GQA question {question_id!r}").split())


def _steps(question_id: str, question: Record) -> int:
    steps = field(question, "semantic", f"GQA question {question_id!r}")
    worded = (f"{step['operation']}: {step['argument']}" for step in steps)
    return sum(not any(asking in step for asking in ASKING_STEPS) for step in worded)


def _share_among(balanced: Questions, given: Mapping[str, str], choices: Questions | None, kind: str) -> Tally | None:
    """The predictions that are among the question's choices of a kind, valid or plausible."""
    if choices is None:
        return None
    marks = []
    for question_id, question in balanced.items():
        if question_id not in choices:
            raise DataError(f"GQA question {question_id!r} has no choices; bring the choices file of its split, or score without")
        own = field(choices[question_id], kind, f"the entry of GQA question {question_id!r} among the choices")
        marks.append(float(given[question_id] in (COMMON_CHOICES if "Common" in _type(question_id, question, "detailed") else own)))
    return count_marks(marks)


def _consistency(questions: Questions, given: Mapping[str, str], marks: Mapping[str, float]) -> float | None:
    """100 x the mean, over right answers that entail others, of the share of those others that are right."""
    shares = []
    for question_id in (question_id for question_id, mark in marks.items() if mark):
        entailed = [other for other in field(questions[question_id], "entailed", f"GQA question {question_id!r}") if other != question_id]
        unknown = [other for other in entailed if other not in questions]
        if unknown:
            raise DataError(
                f"GQA question {question_id!r} entails {unknown[0]!r}, which is not among the questions; give all questions of the split"
            )
        if entailed:
            shares.append(sum(given[other] == _answer(questions, other) for other in entailed) / len(entailed))
    return 100 * sum(shares) / len(shares) if shares else None


def _distribution(balanced: Questions, given: Mapping[str, str]) -> float | None:
    gold: dict[str, Counter[str]] = {}
    predicted: dict[str, Counter[str]] = {}
    for question_id, question in balanced.items():
        thing = f"GQA question {question_id!r}"
        group = field(field(question, "groups", thing), "global", f"the field groups of {thing}")
        if group is not None:
            gold.setdefault(group, Counter())[_answer(balanced, question_id)] += 1
            predicted.setdefault(group, Counter())[given[question_id]] += 1
    if not gold:
        return None
    weighted = 0.0
    for group, expected in gold.items():
        weighted += expected.total() * sum((predicted[group][answer] - count) ** 2 / count for answer, count in expected.items())
    return weighted / sum(expected.total() for expected in gold.values()) / 100
