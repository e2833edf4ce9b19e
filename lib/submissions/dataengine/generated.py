"""Generated records: read, made from replies, turned into training samples, joined to the base mix.

A record is a dict in the layout of the published file (specs/dataengine.md section 1.2): instruction, answer, short_answer, image and,
mostly, options, choice_answer (a letter) and qtype (a number of SEED_TYPES). How the published notebook made samples of them is not
known; `view` names the kit's ways, of which three are those of the MiniGPT-4 half (section 1.3), whose words `minigpt4` has.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lib import files
from lib.errors import ConfigError, DataError
from lib.submissions.dataengine import fields, minigpt4, mix
from lib.submissions.dataengine.question_types import SEED_TYPES
from lib.submissions.dataengine.replies import ALSO_CORRECTED, ANSWER, EXPLANATIONS, NO_SUCH_OPTION
from lib.submissions.dataengine.wording import LETTERS, Wording, by_letter, by_word

Record = dict[str, Any]
View = Literal["mc", "mcp", "da", "short", "mixed"]  # letter; letter, options permuted; sentence; few words; any of the four

TEXTS = dict.fromkeys(("instruction", "answer", "short_answer", "image"), str)
MISSPELT = "choide_answer"  # in the published README
NUMBERS = {name: number for number, name in SEED_TYPES.items()}

STRING_OR_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[\]}])')
MARKER = re.compile(rf"^\s*(?:{'|'.join((ALSO_CORRECTED, *EXPLANATIONS))})\s*")


@dataclass(frozen=True)
class Converted:
    """A training sample in the layout of the mix, and the view and type of question it comes from."""

    sample: Record
    view: str
    type: str


def read_generated(path: Path) -> tuple[list[Record], Counter[str]]:
    """The records of a published or generated file, and what was odd about it.

    Read all the same: commas before a closing bracket, `choide_answer`, and records without usable options, which are read without
    any. Raises DataError naming the first record that is none.
    """
    odd: Counter[str] = Counter()
    found = _parse(path, odd)
    fields.require(found, list, str(path))
    for number, record in enumerate(found, start=1):
        fields.require_fields(record, TEXTS, f"{path}: row {number}")
    return [_tidy(record, odd) for record in found], odd


def from_replies(replies: Sequence[Mapping[str, Any]], images: Mapping[int, str]) -> tuple[list[Record], Counter[str]]:
    """The records of what `replies.read_replies` kept, and why others are not among them; `images` has the path of every image.

    `answer` is the explanation without its marker, or the option's text where the reply explained nothing. A type that is none of
    SEED-Bench has no number: its name stands in `question_type`.
    """
    records: list[Record] = []
    dropped: Counter[str] = Counter()
    for reply in replies:
        options, right = reply["choices"], reply["correct_choice_idx"]
        if right >= len(options):  # not checked by the published rules
            dropped[NO_SUCH_OPTION] += 1
            continue
        rationale, type_ = reply["rationales"][0], reply["question_type"]
        records.append(
            {
                "instruction": reply["question"],
                "answer": options[right] if rationale.startswith(ANSWER) else MARKER.sub("", rationale),
                "short_answer": options[right],
                "options": list(options),
                "choice_answer": LETTERS[right],
                "image": images[reply["image_id"]],
                **({"qtype": NUMBERS[type_]} if type_ in NUMBERS else {"question_type": type_}),
            }
        )
    return records, dropped


def convert(records: Sequence[Record], view: View, *, seed: int, wording: Wording = "llava") -> tuple[list[Converted], Counter[str]]:
    """A sample per record in this view, and how many records had no options to show; `mixed` draws a view for each record.

    `seed` permutes options and draws views. The sample's id holds its view and the record's place in the list.
    """
    if view not in get_args(View):
        raise ConfigError(f"no view {view!r} of generated records; there are: {', '.join(get_args(View))}")
    rng = np.random.default_rng(seed)
    converted: list[Converted] = []
    dropped: Counter[str] = Counter()
    for number, record in enumerate(records):
        own = _draw_view(record, rng) if view == "mixed" else view
        if own in ("mc", "mcp") and "options" not in record:
            dropped["no options for a multiple-choice view"] += 1
            continue
        shown = permute(record, rng) if own == "mcp" else record
        question, answer = minigpt4.training_turns(shown, own) if wording == "minigpt4" else _turns(shown, own)
        turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        sample = {"id": f"engine_{own}_{number}", "image": record["image"], "conversations": turns}
        converted.append(Converted(sample, own, _type_of(record)))
    return converted, dropped


def permute(record: Record, rng: np.random.Generator) -> Record:
    """The record with its options in another order, and the letter of the first that has the right one's text."""
    text = record["options"][LETTERS.index(record["choice_answer"])]
    options = [record["options"][place] for place in rng.permutation(len(record["options"]))]
    return record | {"options": options, "choice_answer": LETTERS[options.index(text)]}


def merge(base: Sequence[Record], converted: Sequence[Converted]) -> list[Record]:
    """The base mix, then the converted samples. Raises DataError for an id that is in both, or twice among the converted."""
    taken = {sample["id"] for sample in base}
    for one in converted:
        if one.sample["id"] in taken:
            raise DataError(f"the sample {one.sample['id']!r} is in the mix already; convert the records of all rounds in one list")
        taken.add(one.sample["id"])
    return [*base, *(one.sample for one in converted)]


def build_manifest(base: Sequence[Record], converted: Sequence[Converted]) -> dict[str, Any]:
    """What a merged mix consists of: samples, and how many by source (folder of the picture), view and type of question."""
    sources = Counter(mix.source_of(sample) for sample in base)
    return {
        "samples": len(base) + len(converted),
        "source": dict(sources) | {"engine": len(converted)},
        "view": dict(Counter(one.view for one in converted)),
        "type": dict(Counter(one.type for one in converted)),
    }


def _parse(path: Path, odd: Counter[str]) -> object:
    """The JSON of the file, read once more without commas before closing brackets if it is none."""
    text = files.read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        commas = sum(found == "," for found in STRING_OR_COMMA.findall(text))
    try:
        value = json.loads(STRING_OR_COMMA.sub(lambda found: found[0].removeprefix(","), text))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); is the file cut off? bring or make it again") from None
    odd["comma before a closing bracket"] = commas
    return value


def _tidy(record: Record, odd: Counter[str]) -> Record:
    """The record with known keys, and options only if its letter names one of them."""
    if MISSPELT in record:
        odd[f"key spelt {MISSPELT}"] += 1
        record = {("choice_answer" if name == MISSPELT else name): value for name, value in record.items()}
    if record.get("qtype") not in SEED_TYPES and "question_type" not in record:
        odd["no type of question"] += 1
    options, letter = record.get("options"), record.get("choice_answer")
    if not options or not letter or len(options) > len(LETTERS):
        odd["no letter, or not one to five options"] += 1
    elif letter not in LETTERS[: len(options)]:
        odd[NO_SUCH_OPTION] += 1
    else:
        return record
    return {name: value for name, value in record.items() if name not in ("options", "choice_answer")}


def _draw_view(record: Record, rng: np.random.Generator) -> str:
    """One of the views that the record can be shown in, all equally likely."""
    return str(rng.choice(["mc", "mcp", "da", "short"] if "options" in record else ["da", "short"]))


def _turns(record: Record, view: str) -> tuple[str, str]:
    """Question and answer of a record in one of the four plain views, in LLaVA's words."""
    if view == "da":
        return record["instruction"], record["answer"]
    if view == "short":
        return by_word(record["instruction"]), record["short_answer"]
    return by_letter(record["instruction"], record["options"]), record["choice_answer"]


def _type_of(record: Record) -> str:
    return SEED_TYPES.get(record.get("qtype"), record.get("question_type", "unknown"))
