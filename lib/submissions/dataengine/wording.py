"""What follows a question in the mix and in the benchmarks: how the answer is to be given, and options by letter."""

from collections.abc import Sequence
from typing import Literal

from lib.errors import DataError

Wording = Literal["llava", "minigpt4"]  # whose half of the publication

WORD_REQUEST = "Answer the question using a single word or phrase."
LETTER_REQUEST = "Answer with the option's letter from the given choices directly."
UNANSWERABLE_REQUEST = "When the provided information is insufficient, respond with 'Unanswerable'."
CAPTION_REQUEST = "Provide a one-sentence caption for the provided image."
LETTERS = "ABCDE"


def by_word(question: str) -> str:
    """The question and the request for a single word or phrase."""
    return f"{question}\n{WORD_REQUEST}"


def by_word_if_answerable(question: str) -> str:
    """The question, what to say where the picture does not tell, and the request for a single word or phrase."""
    return by_word(f"{question}\n{UNANSWERABLE_REQUEST}")


def with_options(question: str, options: Sequence[str]) -> str:
    """The question and its options, each on a line of its own behind its letter. Raises DataError for more options than letters."""
    if len(options) > len(LETTERS):
        raise DataError(
            f"{len(options)} options of the question {question!r}, there are letters for {len(LETTERS)}; take it out of its file"
        )
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


def by_letter(question: str, options: Sequence[str]) -> str:
    """The question, its options, and the request for a letter."""
    return f"{with_options(question, options)}\n{LETTER_REQUEST}"
