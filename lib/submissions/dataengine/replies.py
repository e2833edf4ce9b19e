"""Replies of the writer: which are dropped and why, and what question the others hold.

The checks and their order are those of the published post-processing (specs/dataengine.md section 2.5). `corrected` differs in what
the specification marks as defects: it knows the marker "Explanations:", which the prompt itself asks for; takes "and" before a comma
for a word only if it is one; keeps brackets inside options; skips a reply that says so, not one about a skipping rope; and drops
what lacks a marker, four options A to D, or a letter among them. A letter beyond E, at which the published run ends, drops the
reply in both.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.config import Quirk
from lib.submissions.dataengine.wording import LETTERS

Record = dict[str, Any]

NO_REPLY = "no reply"
MENTIONS_BOXES = "speaks of coordinates or bounding boxes"
SKIPPED = "skipped by the writer"
NO_QUESTION = "no question"
NO_OPTIONS = "no options, or an empty one"
NOT_FOUR = "not four options A to D"
NO_LETTER = "no letter in the answer"
NO_SUCH_OPTION = "a letter that is no option's"
LOCATED_AT = "located at the numbers of a box"
DESCRIPTION = "explained by a description"
REASONS = (NO_REPLY, MENTIONS_BOXES, SKIPPED, NO_QUESTION, NO_OPTIONS, NOT_FOUR, NO_LETTER, NO_SUCH_OPTION, LOCATED_AT, DESCRIPTION)

QUESTION, CHOICES, ANSWER = "Question:", "Choices:", "Answer:"
EXPLANATIONS = ("Explanation:", "Reason:", "Reasoning:", "Lecture:", "Explanatory note:", "Explaination:")
ALSO_CORRECTED = "Explanations:"
FOUR = "ABCD"

FORBIDDEN = re.compile(r"coordinate|bounding box")
LETTERED = re.compile(r"\(([A-E])\)(.*?)(?=\([A-E]\)|$)", re.DOTALL | re.IGNORECASE)
BRACKETED = re.compile(r"\)(?=([^(]*))")
LOCATED = re.compile(r"located at\s*\[")

BOX = re.compile(r"\[.*?\]")
AND: dict[Quirk, re.Pattern[str]] = {
    "as_published": re.compile(r"\s*and\s*(?=[,.?])"),  # makes "s," of "sand ,"
    "corrected": re.compile(r"\s*\band\s*(?=[,.?])"),
}
# What to put in order where boxes were, one after the other.
GAPS = ((re.compile(r"\s*,[\s,]*"), ", "), (re.compile(r"\s*,?\s*(?=[.?])"), ""), (re.compile(r" {2,}"), " "))


@dataclass(frozen=True)
class Parts:
    """A reply, cut at its markers; `rationale` is None if a marker is missing."""

    question: str
    options: str
    answer: str
    rationale: str | None


def read_replies(replies: Iterable[Mapping[str, Any]], *, rules: Quirk) -> tuple[list[Record], Counter[str]]:
    """The records of the replies that hold a question, in order, and how many others were dropped for which reason."""
    records: list[Record] = []
    dropped: Counter[str] = Counter()
    for reply in replies:
        record, reason = read_reply(reply, rules=rules)
        if record is None:
            dropped[reason] += 1
        else:
            records.append(record)
    return records, dropped


def read_reply(reply: Mapping[str, Any], *, rules: Quirk) -> tuple[Record, None] | tuple[None, str]:
    """The reply with question, choices, correct_choice_idx and rationales (of one); or None and why it is dropped, one of REASONS."""
    text = reply["raw_instructions"]
    reason = _refuse(text, rules)
    if reason is not None:
        return None, reason
    parts = _cut(text, rules)
    letters, options = _read_options(parts.options, rules)
    letter = re.search(r"\(([^()]*)", parts.answer)
    reason = _check(letters, options, letter[1].strip().upper() if letter else None, rules)
    if reason is not None:
        return None, reason
    # The last line is the published way out; a reply without an explanation thus explains itself by its answer.
    rationale = text.split("\n")[-1] if parts.rationale is None else parts.rationale
    texts = [parts.question, *options, rationale]
    if any(LOCATED.search(one) for one in texts):
        return None, LOCATED_AT
    question, *choices, rationale = (strip_boxes(one, rules=rules) for one in texts)
    if "description" in rationale.lower():
        return None, DESCRIPTION
    right = LETTERS.index(letter[1].strip().upper())
    return {**reply, "question": question, "choices": choices, "correct_choice_idx": right, "rationales": [rationale]}, None


def strip_boxes(text: str, *, rules: Quirk) -> str:
    """The text without what stands in square brackets; "and", commas and blanks that this leaves over go as well."""
    text = AND[rules].sub("", BOX.sub("", text))
    for gap, filling in GAPS:
        text = gap.sub(filling, text)
    return text.strip()


def _refuse(text: str | None, rules: Quirk) -> str | None:
    """Why the text is dropped before it is cut, if it is."""
    if text is None:
        return NO_REPLY
    if FORBIDDEN.search(text):
        return MENTIONS_BOXES
    if rules == "as_published":
        return SKIPPED if "skip" in text or "Skip" in text else None
    if re.match(r"\W*skip\b", text, re.IGNORECASE):
        return SKIPPED
    missing = {QUESTION: NO_QUESTION, CHOICES: NO_OPTIONS, ANSWER: NO_LETTER}
    return next((reason for marker, reason in missing.items() if marker not in text), None)


def _cut(text: str, rules: Quirk) -> Parts:
    """NOTE: `as_published`, a marker that is missing is at -1, and the slices are what they then are."""
    known = EXPLANATIONS if rules == "as_published" else (ALSO_CORRECTED, *EXPLANATIONS)
    explanation = next((text.index(marker) for marker in known if marker in text), None)
    question, options, answer = (text.find(marker) for marker in (QUESTION, CHOICES, ANSWER))
    is_whole = explanation is not None and -1 not in (question, options, answer)
    return Parts(
        text[question + len(QUESTION) : options].strip(),
        text[options + len(CHOICES) : answer].strip(),
        text[answer:explanation],
        text[explanation:].strip() if is_whole else None,
    )


def _read_options(block: str, rules: Quirk) -> tuple[str, list[str]]:
    """The letters and the texts of the options, without a final full stop each; `as_published` letters are not looked at."""
    published = [("", text) for text in BRACKETED.findall(block) if text.strip()]
    found = published if rules == "as_published" else LETTERED.findall(block)
    return "".join(letter for letter, _ in found).upper(), [text.strip().removesuffix(".") for _, text in found]


def _check(letters: str, options: list[str], right: str | None, rules: Quirk) -> str | None:
    """Why options and answer do not make a question, if they do not."""
    if not all(options) or not options:
        return NO_OPTIONS
    if rules == "corrected" and letters != FOUR:
        return NOT_FOUR
    if right is None:
        return NO_LETTER
    return None if right in tuple(LETTERS if rules == "as_published" else FOUR) else NO_SUCH_OPTION
