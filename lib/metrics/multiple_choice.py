"""Multiple choice: SEED-Bench, MMBench and A-OKVQA (with its direct answers), and the files that their servers take.

Definitions: dataengine specification, sections 2.1, 7.1 and 7.2. ScienceQA has its own module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lib.errors import DataError
from lib.metrics.tally import Mark, QuestionId, Record, Tally, count_by, count_marks, field, question_key, texts_by_question

Comparison = Literal["as_published", "corrected"]

LETTERS = "ABCD"
REFUSED = "Z"  # the letter of an answer that refuses to choose
ROTATION = 1_000_000  # the k-th rotation of an MMBench question has its index plus k times this

# The circular evaluation's reading of an answer: VLMEvalKit, vlmeval/utils/matching_util.py, can_infer.
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
TO_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
NEAR_THE_END = 4  # words

# What the published script leaves out of the spreadsheet, and where it puts the predictions.
DROPPED_COLUMNS = {"hint", "category", "source", "image", "comment", "l2-category"}
PREDICTION_COLUMN = 6

# A direct answer is right from three agreeing annotators on.
ENOUGH_ANNOTATORS = 3


@dataclass(frozen=True)
class SeedScore:
    """SEED-Bench tallies; `image.percent` is the reported number. Types in the order of their numbers."""

    all: Tally
    image: Tally
    by_type: dict[str, Tally]
    image_by_type: dict[str, Tally]


@dataclass(frozen=True)
class MmbenchScore:
    """MMBench tallies of questions (right in every rotation) and of single rows; `hits` says which questions were right."""

    circular: Tally
    by_category: dict[str, Tally]
    rows: Tally
    hits: dict[int, bool]


def score_seed(annotation: Record, predictions: Mapping[QuestionId, str]) -> SeedScore:
    """Letters compared with SEED-Bench.json's answers, character by character; a question without a prediction is wrong.

    The published script fails when every answer of a type is wrong and overwrites the values per type; here all are kept.
    """
    given = texts_by_question(predictions)
    names = {number: name for name, number in field(annotation, "question_type", "the SEED-Bench annotation").items()}
    marks: list[tuple[int, bool, Mark]] = []
    for question in field(annotation, "questions", "the SEED-Bench annotation"):
        thing = f"SEED-Bench question {question.get('question_id')!r}"
        number = field(question, "question_type_id", thing)
        if number not in names:
            raise DataError(
                f"{thing} is of type {number!r}; the annotation names types {', '.join(map(str, sorted(names)))}, compare the two"
            )
        text = given.get(question_key(field(question, "question_id", thing)))
        mark = None if text is None else float(text == field(question, "answer", thing))
        marks.append((number, field(question, "data_type", thing) == "image", mark))
    marks.sort(key=lambda entry: entry[0])
    image = [(number, mark) for number, is_image, mark in marks if is_image]
    return SeedScore(
        all=count_marks(mark for _, _, mark in marks),
        image=count_marks(mark for _, mark in image),
        by_type=count_by((names[number], mark) for number, _, mark in marks),
        image_by_type=count_by((names[number], mark) for number, mark in image),
    )


def seed_upload(annotation: Record, predictions: Mapping[QuestionId, str]) -> list[dict]:
    """The upload's lines in the annotation's order; a question without a prediction is left out, where the published script fails."""
    given = texts_by_question(predictions)
    ids = [
        field(question, "question_id", "a SEED-Bench question") for question in field(annotation, "questions", "the SEED-Bench annotation")
    ]
    return [{"question_id": its, "prediction": given[question_key(its)]} for its in ids if question_key(its) in given]


def mmbench_options(row: Record) -> dict[str, str]:
    """letter -> option of a row of MMBench's table, from A up to the first that is missing: empty, NaN, "nan" or "none"."""
    options = {}
    for letter in LETTERS:
        value = row.get(letter)
        if value is None or str(value).lower() in ("", "nan", "none"):
            break
        options[letter] = str(value)
    return options


def infer_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The option an answer means, `REFUSED` if it refuses to choose, None if neither can be told.

    It is the only option letter among the words, if one of the last four; else the only option whose text the answer
    contains, unless the answer is more than twice as long as all options together.
    """
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSED
    words = answer.translate(TO_BLANKS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and len(words) - words.index(named[0]) <= NEAR_THE_END:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    lowered = answer.lower()
    if len(lowered) > 2 * sum(map(len, options.values())):
        return None
    contained = [letter for letter, option in options.items() if option.lower() in lowered]
    return contained[0] if len(contained) == 1 else None


def score_mmbench(rows: Sequence[Record], predictions: Mapping[QuestionId, str]) -> MmbenchScore:
    """Circular accuracy of MMBench, total and per category: a question is right when the answers to all its rotations are.

    A question with a rotation that has no prediction is wrong and counts as unanswered.
    """
    given = texts_by_question(predictions)
    marks: dict[int, list[Mark]] = {}
    categories: dict[int, str] = {}
    for row in rows:
        index = _index(row)
        marks.setdefault(index % ROTATION, []).append(_row_mark(row, given.get(index)))
        categories.setdefault(index % ROTATION, str(row.get("category", "")))
    whole = {question: None if None in own else float(all(own)) for question, own in marks.items()}
    by_category = count_by((categories[question], mark) for question, mark in whole.items())
    return MmbenchScore(
        circular=count_marks(whole.values()),
        by_category=dict(sorted(by_category.items())),
        rows=count_marks(mark for own in marks.values() for mark in own),
        hits={question: bool(mark) for question, mark in whole.items()},
    )


def mmbench_sheet(rows: Sequence[Record], predictions: Mapping[QuestionId, str]) -> tuple[list[str], list[list[object]]]:
    """Header and rows of the spreadsheet that MMBench's server takes; no prediction is an empty cell (None).

    Columns the table lacks are not missed, where the published script fails.
    """
    if not rows:
        raise DataError("no rows to make MMBench's spreadsheet from; read the benchmark's table first")
    given = texts_by_question(predictions)
    header = [name for name in rows[0] if name not in DROPPED_COLUMNS]
    sheet = []
    for row in rows:
        cells = [row.get(name) for name in header]
        cells.insert(PREDICTION_COLUMN, given.get(_index(row)))
        sheet.append(cells)
    header.insert(PREDICTION_COLUMN, "prediction")
    return header, sheet


def score_aokvqa_choice(questions: Mapping[str, Record], predictions: Mapping[str, str], *, comparison: Comparison) -> Tally:
    """A-OKVQA multiple choice: the prediction is the right choice; a question without a prediction is wrong.

    `as_published` compares the lower-cased prediction up to its first dot with the choice as it is, so a choice with a capital
    or a dot is never right; `corrected` compares both lower-cased without a final dot and cuts only what names no choice as a whole.
    """
    _check_comparison(comparison)
    marks = []
    for question_id, question in questions.items():
        thing = f"A-OKVQA question {question_id!r}"
        choices, right = field(question, "choices", thing), field(question, "correct_choice_idx", thing)
        if right not in range(len(choices)):
            raise DataError(f"{thing} has the right choice {right!r}; its {len(choices)} choices count from 0, bring the annotation again")
        text = predictions.get(question_id)
        if comparison == "as_published":
            marks.append(None if text is None else float(_cut(text) == choices[right]))
        else:
            choices = [_plain(choice) for choice in choices]
            marks.append(None if text is None else float(_whole_or_cut(text, choices) == choices[right]))
    return count_marks(marks)


def score_aokvqa_direct(questions: Mapping[str, Record], predictions: Mapping[str, str], *, comparison: Comparison) -> Tally:
    """A-OKVQA direct answers: min(1, agreeing annotators / 3), over the questions not marked difficult.

    `comparison` as for the choices: under `as_published` an annotator's answer with a capital or a dot never agrees.
    """
    _check_comparison(comparison)
    marks = []
    for question_id, question in questions.items():
        thing = f"A-OKVQA question {question_id!r}"
        answers = field(question, "direct_answers", thing)
        if field(question, "difficult_direct_answer", thing):
            continue
        text = predictions.get(question_id)
        if text is None:
            marks.append(None)
        elif comparison == "as_published":
            marks.append(min(1.0, answers.count(_cut(text)) / ENOUGH_ANNOTATORS))
        else:
            answers = [_plain(answer) for answer in answers]
            marks.append(min(1.0, answers.count(_whole_or_cut(text, answers)) / ENOUGH_ANNOTATORS))
    return count_marks(marks)


def _index(row: Record) -> int:
    index = question_key(field(row, "index", "a row of MMBench's table"))
    if not isinstance(index, int):
        raise DataError(f"a row of MMBench's table has index {index!r}; it has to be a number, bring the table again")
    return index


def _row_mark(row: Record, text: str | None) -> Mark:
    thing = f"MMBench row {row['index']!r}"
    options, answer = mmbench_options(row), field(row, "answer", thing)
    if answer not in options:
        raise DataError(f"{thing} has the answer {answer!r}; its options are {', '.join(options) or 'none'}, bring the table again")
    return None if text is None else float(infer_letter(text, options) == answer)


def _check_comparison(comparison: str) -> None:
    if comparison not in ("as_published", "corrected"):
        raise DataError(f"A-OKVQA has no comparison {comparison!r}; it has: as_published, corrected")


def _cut(text: str) -> str:
    return text.partition(".")[0].lower()


def _plain(text: str) -> str:
    return text.strip().lower().removesuffix(".")


def _whole_or_cut(text: str, known: Sequence[str]) -> str:
    whole = _plain(text)
    return whole if whole in known else whole.partition(".")[0].strip()
