"""ScienceQA: the letter an answer gives, accuracy and IMG accuracy, and the two JSON files of the published script.

Definitions: dataengine specification, section 7.6.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib.errors import DataError
from lib.metrics.tally import Record, Tally, count_marks, field

LETTERS = "ABCDE"
FAILED = "FAILED"  # the published name of an answer without a letter, and the text of a missing one
IN_A_SENTENCE = re.compile("The answer is ([A-Z]).")  # followed by any character


@dataclass(frozen=True)
class ScienceQaAnswer:
    """What was made of the answer to one question; `index` is the chosen option's number from 0, -1 for none of them."""

    question_id: str
    letter: str
    index: int
    right_index: int
    prompt: str
    text: str

    @property
    def is_right(self) -> bool:
        """Whether the right option was chosen."""
        return self.index == self.right_index

    @property
    def is_multimodal(self) -> bool:
        """Whether the prompt, as it was recorded, holds an image: the published test for an image question."""
        return "<image>" in self.prompt


@dataclass(frozen=True)
class ScienceQaScore:
    """Tallies over all questions, over the image questions answered (IMG accuracy as published), over all image questions."""

    all: Tally
    image_as_published: Tally
    image: Tally
    answers: tuple[ScienceQaAnswer, ...]


def scienceqa_letter(text: str) -> str:
    """The letter: the whole text, its start before ". ", or the only X of "The answer is X" with a character behind; else FAILED."""
    if text in tuple(LETTERS):
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = IN_A_SENTENCE.findall(text)
    return found[0] if len(found) == 1 else FAILED


def score_scienceqa(problems: Mapping[str, Record], test_ids: Sequence[str], predictions: Sequence[Record]) -> ScienceQaScore:
    """Score the answer lines {question_id, prompt, text} of a split; a missing answer is wrong, a letter beyond the choices as well.

    The published script fails without any image question; here that tally is empty and its percent None.
    """
    lines: dict[str, Record] = {}
    for line in predictions:
        question_id = field(line, "question_id", "a ScienceQA prediction")
        if question_id in lines:
            raise DataError(f"ScienceQA question {question_id!r} has two predictions; keep one of them")
        lines[question_id] = line
    unknown = [question_id for question_id in test_ids if question_id not in problems]
    if unknown:
        raise DataError(f"ScienceQA question {unknown[0]!r} of the split is not among the problems; bring both files from the same release")
    answers = tuple(_read_answer(question_id, problems[question_id], lines.get(question_id)) for question_id in test_ids)
    marks = {answer.question_id: float(answer.is_right) if answer.question_id in lines else None for answer in answers}
    return ScienceQaScore(
        all=count_marks(marks.values()),
        image_as_published=count_marks(marks[answer.question_id] for answer in answers if answer.is_multimodal),
        image=count_marks(marks[question_id] for question_id in test_ids if problems[question_id].get("image")),
        answers=answers,
    )


def scienceqa_result(score: ScienceQaScore) -> dict:
    """The content of the published `_result.json`."""
    return {
        "acc": score.all.percent,
        "correct": int(score.all.correct),
        "count": score.all.total,
        "results": {answer.question_id: answer.index for answer in score.answers},
        "outputs": {answer.question_id: answer.text for answer in score.answers},
    }


def scienceqa_output(score: ScienceQaScore) -> dict[str, list[dict]]:
    """The content of the published `_output.jsonl`, which is one JSON object: every answer under `correct` or `incorrect`."""
    output: dict[str, list[dict]] = {"correct": [], "incorrect": []}
    for answer in score.answers:
        output["correct" if answer.is_right else "incorrect"].append(
            {
                "question_id": answer.question_id,
                "parsed_ans": answer.letter,
                "ground_truth": LETTERS[answer.right_index],
                "question": answer.prompt,
                "pred": answer.text,
                "is_multimodal": answer.is_multimodal,
            }
        )
    return output


def _read_answer(question_id: str, problem: Record, line: Record | None) -> ScienceQaAnswer:
    thing = f"ScienceQA question {question_id!r}"
    choices, right = field(problem, "choices", thing), field(problem, "answer", thing)
    if right not in range(min(len(choices), len(LETTERS))):
        raise DataError(f"{thing} has the answer {right!r}; its {len(choices)} choices count from 0, at most 5, bring problems.json again")
    line = {"text": FAILED, "prompt": "Unknown"} if line is None else line  # the published stand-in
    text, prompt = (field(line, name, f"the prediction of {thing}") for name in ("text", "prompt"))
    letter = scienceqa_letter(text)
    index = LETTERS.find(letter, 0, len(choices))
    return ScienceQaAnswer(question_id, letter, index, right, prompt, text)
