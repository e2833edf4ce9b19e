"""Questions answered yes or no: POPE's confusion and MME's perception and cognition scores.

Definitions: dataengine specification, sections 7.3 (MME) and 7.7 (POPE).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lib.errors import DataError
from lib.metrics.tally import Record, Tally, count_marks, field

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

MmeTruth = Mapping[tuple[str, str, str], str]  # category, file, question -> Yes or No

# How MME asks, and what LLaVA's question file puts in its place.
MME_REQUEST = "Please answer yes or no."
LLAVA_REQUEST = "Answer the question using a single word or phrase."
LABEL_CHARACTERS = 4  # the official tool looks for yes and no among the first four
ONE_BLANK_EACH = str.maketrans("\t\n\r", "   ")


@dataclass(frozen=True)
class Confusion:
    """Counts of POPE's answers, `yes` being positive; all rates are 0 to 1, and 0 where the published script divides by zero."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @property
    def total(self) -> int:
        """How many answers there are."""
        return self.true_positive + self.false_positive + self.true_negative + self.false_negative

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return _share(self.true_positive + self.true_negative, self.total)

    @property
    def precision(self) -> float:
        """The share of right answers among those that say yes."""
        return _share(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """The share of right answers where yes is right."""
        return _share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def yes_ratio(self) -> float:
        """The share of answers that say yes."""
        return _share(self.true_positive + self.false_positive, self.total)


@dataclass(frozen=True)
class MmeRow:
    """One question of MME with its answer: a line of the official tool's `<category>.txt`."""

    file: str
    question: str
    truth: str
    answer: str


@dataclass(frozen=True)
class MmeCategory:
    """`questions` gives acc, `images` (both questions right) acc+; `other` answers say neither yes nor no."""

    questions: Tally
    images: Tally
    other: int

    @property
    def score(self) -> float:
        """100 x (acc + acc+), at most 200."""
        return (self.questions.percent or 0.0) + (self.images.percent or 0.0)


@dataclass(frozen=True)
class MmeScore:
    """MME by category. Sums are over the categories that were answered; `absent` names the others."""

    categories: dict[str, MmeCategory]

    @property
    def perception(self) -> float:
        """The sum over the ten perception categories, at most 2000."""
        return self._sum(PERCEPTION)

    @property
    def cognition(self) -> float:
        """The sum over the four cognition categories, at most 800."""
        return self._sum(COGNITION)

    @property
    def total(self) -> float:
        """Perception and cognition together, at most 2800."""
        return self.perception + self.cognition

    @property
    def absent(self) -> tuple[str, ...]:
        """The categories without an answer."""
        return tuple(name for name in PERCEPTION + COGNITION if name not in self.categories)

    def _sum(self, names: Sequence[str]) -> float:
        return sum(self.categories[name].score for name in names if name in self.categories)


def pope_label(text: str) -> str:
    """no if the text before the first dot, without commas, has one of the words No, not and no; else yes, whatever it says."""
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"}.intersection(words) else "yes"


def score_pope(labels: Sequence[str], answers: Sequence[str]) -> Confusion:
    """The confusion of one category of POPE, labels and answers in the same order; only `no` and `yes` are labels."""
    if len(labels) != len(answers):
        raise DataError(f"POPE has {len(labels)} labels and {len(answers)} answers; one answer per label is needed, in the same order")
    odd = next((label for label in labels if label not in ("yes", "no")), None)
    if odd is not None:
        raise DataError(f"POPE has a label {odd!r}; labels are yes or no, bring the annotation again")
    pairs = [(pope_label(answer), label) for answer, label in zip(answers, labels, strict=True)]
    return Confusion(*(pairs.count(pair) for pair in (("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "yes"))))


def mme_label(text: str) -> str:
    """yes or no if the first four characters, lower-cased, contain it, yes first; else other: "not sure" is no, "It is no" other."""
    start = text.lower()[:LABEL_CHARACTERS]
    return next((label for label in ("yes", "no") if label in start), "other")


def mme_truth(texts: Mapping[tuple[str, str], str]) -> dict[tuple[str, str, str], str]:
    """(category, file, question) -> Yes or No, from (category, file) -> content of MME's `<image>.txt`."""
    truth = {}
    for (category, file), text in texts.items():
        for number, line in enumerate(text.strip().split("\n"), start=1):
            question, *answers = line.strip().split("\t")
            if len(answers) != 1 or answers[0].lower() not in ("yes", "no"):
                raise DataError(f"MME's {category}/{file}:{number} is {line.strip()!r}; a question, a tab and Yes or No are needed")
            truth[category, file, question] = answers[0]
    return truth


def mme_rows(answers: Sequence[Record], truth: MmeTruth) -> dict[str, list[MmeRow]]:
    """category -> rows of the answer lines {question_id, prompt, text}, questions worded as MME does; a question's later answers are left out."""
    rows: dict[str, list[MmeRow]] = {}
    seen = set()
    for line in answers:
        question_id, prompt, text = (field(line, name, "an MME prediction") for name in ("question_id", "prompt", "text"))
        path = PurePosixPath(question_id)
        if len(path.parts) < 2:
            raise DataError(
                f"MME question {question_id!r} names no category; ids are like color/images/0001.jpg, bring the question file again"
            )
        category, file = path.parts[0], f"{path.stem}.txt"
        question = _mme_question(prompt, (category, file), truth)
        if (category, file, question) not in truth:
            raise DataError(f"MME's {category}/{file} has no question {question!r}; are questions and answers of the same release?")
        if (category, file, question) not in seen:
            rows.setdefault(category, []).append(MmeRow(file, question, truth[category, file, question], text))
        seen.add((category, file, question))
    return rows


def mme_lines(rows: Sequence[MmeRow]) -> list[str]:
    """The lines of the official tool's `<category>.txt`; a tab or line end in an answer, which breaks that file, becomes a blank."""
    return ["\t".join((row.file, row.question, row.truth, row.answer.translate(ONE_BLANK_EACH))) for row in rows]


def score_mme(rows: Mapping[str, Sequence[MmeRow]]) -> MmeScore:
    """MME's scores from the rows of each category. The two questions of an image are found by its file, wherever they stand."""
    unknown = [category for category in rows if category not in PERCEPTION + COGNITION]
    if unknown:
        raise DataError(f"MME has no category {unknown[0]!r}; it has: {', '.join(PERCEPTION + COGNITION)}")
    return MmeScore({name: _score_category(name, rows[name]) for name in PERCEPTION + COGNITION if name in rows})


def _score_category(name: str, rows: Sequence[MmeRow]) -> MmeCategory:
    labels = [mme_label(row.answer) for row in rows]
    images: dict[str, list[float]] = {}
    for row, label in zip(rows, labels, strict=True):
        images.setdefault(row.file, []).append(float(label == row.truth.lower()))
    for file, marks in images.items():
        if len(marks) != 2:
            raise DataError(
                f"MME's {name}/{file} has {len(marks)} answers; every image has 2 questions with one answer each, infer it again"
            )
    return MmeCategory(
        questions=count_marks(mark for marks in images.values() for mark in marks),
        images=count_marks(min(marks) for marks in images.values()),
        other=labels.count("other"),
    )


def _mme_question(prompt: str, where: tuple[str, str], truth: MmeTruth) -> str:
    """The question as MME words it: some releases have two blanks before the request."""
    question = prompt.replace(LLAVA_REQUEST, "").strip() if LLAVA_REQUEST in prompt else prompt
    if MME_REQUEST in question:
        return question
    wordings = [f"{question}{blanks}{MME_REQUEST}" for blanks in (" ", "  ")]
    return next((wording for wording in wordings if (*where, wording) in truth), wordings[0])


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
