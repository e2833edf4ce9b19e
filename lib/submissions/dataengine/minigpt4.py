"""The publication's half about MiniGPT4-v2: in which words it asks and trains, and how it reads what is answered.

The kit has no such model: its own is asked, trained and scored in these words (`infer.wording`, `augmentation.wording`). What is published
is MiniGPT-4's evaluation and loaders with two benchmarks and three loaders more (dataengine specification, sections 1.3, 4 and 7.7).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib.errors import ConfigError
from lib.submissions.dataengine.wording import by_letter

TASK = "[vqa] "  # which of the model's tasks a question belongs to
AS_IT_STANDS = f"{TASK}{{}}"
SHORT_ANSWER = f"{TASK}Based on the image, respond to this question with a short answer: {{}}"
# The two sentences of VizWiz's request are joined as published.
WORDS_OR_UNANSWERABLE = (
    f"{TASK}The question is '{{}}' Based on the image, answer the question with a single word or phrase. "
    "and reply 'unanswerable' when the provided information is insufficient"
)
TRUE_OR_FALSE = f"{TASK}Based on the image, is this statement true or false? {{}}"
WORDS = {
    "seed": AS_IT_STANDS,
    "mmbench": AS_IT_STANDS,
    "okvqa": SHORT_ANSWER,
    "vizwiz_val": WORDS_OR_UNANSWERABLE,
    "vsr": TRUE_OR_FALSE,
    "aokvqa": AS_IT_STANDS,  # never asked there; the kit asks it like SEED-Bench, as a round learns from it for the next
}
MAX_NEW_TOKENS = 20  # of every answer, always the likeliest token

TO_BLANKS = re.compile(r'[.!"()*#:;~]')
BLANKS = re.compile(r"\s{2,}")
MOST_WORDS = 50


def check_asked(benchmarks: Iterable[str]) -> None:
    """Raise ConfigError, naming them, for benchmarks that this half has no words for."""
    unknown = ", ".join(name for name in benchmarks if name not in WORDS)
    if unknown:
        raise ConfigError(
            f"infer.wording is minigpt4, which has no words for {unknown}; it has them for: {', '.join(WORDS)}; shorten infer.benchmarks, "
            "or set infer.wording=llava"
        )


def process_text(text: str) -> str:
    """The text as MiniGPT-4 trains it: lower case, some punctuation and runs of blanks turned into one blank, at most 50 words."""
    text = BLANKS.sub(" ", TO_BLANKS.sub(" ", text.lower())).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:MOST_WORDS])


def training_turns(record: Mapping[str, Any], view: str) -> tuple[str, str]:
    """Question and answer of a generated record in one of the four plain views.

    NOTE: answers are processed in every view, letters too, questions only where no options follow. Of `short` there is no loader: the
    kit words it like OKVQA, whose answers are as short.
    """
    if view in ("mc", "mcp"):
        return AS_IT_STANDS.format(by_letter(record["instruction"], record["options"])), process_text(record["choice_answer"])
    question = process_text(record["instruction"])
    if view == "short":
        return SHORT_ANSWER.format(question), process_text(record["short_answer"])
    return AS_IT_STANDS.format(question), process_text(record["answer"])


def read_answers(benchmark: str, lines: Sequence[dict]) -> list[dict]:
    """The lines of an answer file with every `text` as this half scores it and hands it in."""
    return [line | {"text": _read(benchmark, line["text"])} for line in lines]


def _read(benchmark: str, text: str) -> str:
    if benchmark == "seed":
        return text[:1].upper()
    if benchmark == "mmbench":
        return text.capitalize()
    return text.lower().strip() if benchmark == "okvqa" else text
