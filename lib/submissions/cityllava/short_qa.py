"""Short questions: a language model sorts a caption's sentences by topic, the sentences of a topic answer its question.

Steps 1 and 2 of the published construction (specs/cityllava.md section 4), and a stand-in for the language model that sorts by
keywords. Records are dicts in the published layout; `letters` and `glued_question` are the two quirks of the published scripts.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lib.config import Quirk
from lib.errors import DataError
from lib.services import Outcome, Request
from lib.submissions.cityllava.annotations import KINDS, Finding, Kind

Record = dict[str, Any]

CAPTION_TURN: dict[Kind, int] = {"pedestrian": 1, "vehicle": 3}

FOLDER = "processed_anno/caption_split"
CLASSIFIED: dict[Kind, str] = {kind: f"{FOLDER}/caption_split_{kind}_0.json" for kind in KINDS}  # JSON lines, whatever the name says
MERGED_KIND: dict[Kind, str] = {kind: f"{FOLDER}/caption_split_{kind}_merge.json" for kind in KINDS}
MERGED = f"{FOLDER}/caption_split_merge.json"

# The published prompt to the character, blanks before line ends included.
QWEN_SYSTEM = "You are a helpful assistant."  # sent to Qwen; GPT-4 was asked without
TASK = (
    "Please select the most appropriate label for each descriptive text from the following options, and format the output by "
    "providing the text index followed by the letter a, b, c, d, or e. Each selection should be on a new line.\n"
)
OPTIONS: dict[Kind, str] = {
    "pedestrian": (
        "Option a. Description of the pedestrian's age, height and clothing.\n"
        "Option b. Description of the orientation and relative position relationship between pedestrians and vehicles.\n"
        "Option c. Description of the pedestrian's line of sight direction and movement status. \n"
        "Option d. Pedestrians' surrounding environment, weather conditions, and road conditions. \n"
        "Option e. A description of whether pedestrians have potential risks or accidents, summarizing the pedestrian situation. \n"
    ),
    "vehicle": (
        "Option a. Description of the orientation and relative position relationship between pedestrians and vehicles. \n"
        "Option b. Description of the vehicle's driving status and speed. \n"
        "Option c. Description of the pedestrian' age, height and clothing. \n"
        "Option d. Description of the surrounding environment, weather conditions, and road conditions. \n"
        "Option e. A summary of the vehicle's situation.\n"
    ),
}
TEXT_FOLLOWS = "here is the descriptive text: \n"

# Sentences of the other letters are in the full answer only.
SHORT_QUESTIONS: dict[Kind, dict[str, str]] = {
    "pedestrian": {
        "a": "Describe the age, height and clothing of the pedestrian in the green box.",
        "b": "Describe the position of the pedestrian in the green box relative to the vehicle.",
        "c": "Describe the line of sight and movement status of the pedestrian in the green box.",
        "d": "Describe the weather conditions and road environment.",
    },
    "vehicle": {
        "a": "Describe the position of the vehicle in the blue box relative to the pedestrian in the green box.",
        "b": "Describe the driving status of the vehicle in the blue box.",
    },
}
GLUED = "Describe the attributes of the pedestrian with the green box."  # follows the vehicle's b for want of a comma
FULL_QUESTION: dict[Kind, str] = {
    "pedestrian": (
        "This picture shows the relationship between the pedestrian in the green box and the vehicle in the blue box. Describe the "
        "pedestrian in the green box or the pedestrian closest to the vehicle based on age, height, clothing, line of sight, relative "
        "position to the vehicle, movement status, weather conditions and road environment."
    ),
    "vehicle": (
        "This picture shows the relationship between the vehicle in the blue box and the pedestrian in the green box. Describe the "
        "vehicle in the blue box or the vehicle closest to the pedestrian based on the relative position to the pedestrian, driving "
        "status, weather conditions and road environment. And describe the age, height, clothing of the pedestrian."
    ),
}
IMAGE = "<image>\n"

ANSWER_LINE = re.compile(r"^\s*(\d{1,4})\s*[.):]?\s*(?:option\s*)?([a-e])\b", re.IGNORECASE)
NUMBERED = re.compile(r"^(\d+)\.(.+?)\.(?=\n\d+\.|\n*\Z)", re.MULTILINE | re.DOTALL)

# What the stand-in takes for a sign of a topic; the topic with most signs wins, of two with as many the one named first.
SIGNS: dict[str, re.Pattern[str]] = {
    topic: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for topic, words in {
        "summary": (
            r"risk\w*|danger\w*|hazard\w*|accidents?|incidents?|collisions?|collid\w+|crash\w*|impact|(?:un)?safe(?:ly|ty)?|caution\w*|"
            r"overall(?! appearance)|in summary|to sum up|potential\w*|unknown|reason|situation"
        ),
        "appearance": (
            r"age[ds]?|(?:early |late )?\d0s|teens|twenties|thirties|forties|fifties|sixties|years|old|young|child|teenager|adult|elderly|"
            r"(?:fe)?male|gender|height|cm|tall|wear\w*|wore|worn|clad|adorned|dress\w*|cloth\w*|outfit|(?:upper|lower) body|jacket|coat|"
            r"raincoat|vest|sweater|t-?shirt|shirt|slacks|trousers|pants|jeans|leggings|corduroys|skirt|hat|cap|shoes|glasses|hair"
        ),
        "position": (
            r"position\w*|located|locat(?:ion|es)|orient\w*|(?:in|to the) front(?: of)?|behind|beside|next to|diagonal\w*|"
            r"perpendicular\w*|parallel|(?:opposite|same) direction|(?<!turning )(?:left|right)(?! now)(?:-hand)?(?: side| edge)?|distances?|close(?:ly by| by)?|"
            r"near(?:by)?(?! the ground)|far|away|meters|proximity|field of view|visible|seen from|fac(?:es|ed|ing) (?:the|towards?)"
        ),
        "behaviour": (
            r"line of sight|sight|looks?|looking|gaz\w+|eyes|watch\w*|observ\w+|(?:un)?aware\w*|notic\w+|attention|visual status|"
            r"walk\w*|runs?|running|rush\w*|stands?|standing|stood|still|stops?|stopped|stationary|cross(?:es|ed|ing)?|mov\w+|steps?|cast|"
            r"speed|slow\w*|fast|pace|turn\w*|crouch\w*|squat\w*|fell|fallen|thrown|about to|action|direction of travel"
        ),
        "driving": (
            r"speed\w*|km/h|kmph|driv\w+|mov\w+|travel\w*|go(?:es|ing) straight|proceed\w*|straight ahead|accelerat\w+|decelerat\w+|"
            r"brak\w+|stops?|stopped|stationary|halt\w*|turn\w*|steer\w*|revers\w+|back(?:s|ed|ing) up|creep\w*|roll\w*|start\w*|indicators"
        ),
        "surroundings": (
            r"weather|sunny|sunshine|sun|sky|cloud\w*|overcast|rain(?:s|ing|y)?|snow\w*|cold|freezing|fog\w*|wind\w*|bright\w*|dim|dark\w*|daylight|"
            r"night|weekday|weekend|surface|asphalt|dry|wet|inclin\w+|level|lanes?|sidewalks?|roadside|street lights?|"
            r"(?:residential|main|urban|rural|busy) (?:road|street|area)|intersection|crosswalk|parking lot|traffic|environment\w*|"
            r"surroundings|takes? place|took place|conditions?"
        ),
    }.items()
}
TOPIC_LETTERS: dict[Kind, dict[str, str]] = {
    "pedestrian": {"summary": "e", "appearance": "a", "position": "b", "behaviour": "c", "surroundings": "d"},
    "vehicle": {"summary": "e", "appearance": "c", "position": "a", "driving": "b", "surroundings": "d"},
}


def caption_of(record: Mapping[str, Any], kind: Kind) -> str:
    """The caption in a record of two questions, pedestrian first. Raises DataError if there is none."""
    try:
        return record["conversations"][CAPTION_TURN[kind]]["value"]
    except LookupError:
        raise DataError(f"{record.get('image', record.get('id'))}: no caption of the {kind}; build the records again") from None


def split_sentences(caption: str) -> dict[int, str]:
    """The sentences, without the period that ends them, by their number in the prompt; blank ones are left out."""
    pieces = f"{caption} ".split(". ")
    return {number: piece for number, piece in enumerate(pieces, start=1) if piece.strip()}


def number_sentences(caption: str) -> str:
    """One line `<number>.<sentence>.` per sentence; a caption that ends with a period is followed by a line end."""
    pieces = f"{caption} ".split(". ")
    return "\n".join(f"{number}.{piece}." if piece else "" for number, piece in enumerate(pieces, start=1))


def build_prompt(caption: str, kind: Kind) -> str:
    """The published message that asks for a letter per sentence."""
    return TASK + OPTIONS[kind] + TEXT_FOLLOWS + number_sentences(caption)


def build_requests(
    records: Sequence[Mapping[str, Any]], kind: Kind, *, model: str, system: str | None, parameters: Mapping[str, Any]
) -> list[Request]:
    """One request per record; `system` is the message before the question, if any."""
    before = [] if system is None else [{"role": "system", "content": system}]
    prompts = [build_prompt(caption_of(record, kind), kind) for record in records]
    return [Request(model, [*before, {"role": "user", "content": prompt}], parameters) for prompt in prompts]


def add_answers(records: Sequence[Record], kind: Kind, outcomes: Sequence[Outcome]) -> list[Record]:
    """The records of the file of answers: each with the model's text, null where it failed, as `<kind>_response`."""
    return [record | {f"{kind}_response": outcome.text} for record, outcome in zip(records, outcomes, strict=True)]


def merge(records: Sequence[Record], kind: Kind, *, letters: Quirk, glued_question: Quirk) -> tuple[list[Record], list[Finding]]:
    """Per record its short samples by letter, then the full one, each of a single turn; and what was wrong with the answers.

    `full_flag` is 0 for short and 1 for full; the other keys of the record are kept.
    """
    samples: list[Record] = []
    findings: list[Finding] = []
    for record in records:
        caption = caption_of(record, kind)
        labelled, problems = parse_answer(record[f"{kind}_response"], caption, letters=letters)
        findings += [Finding(f"{kind} answer: {problem}", record["image"]) for problem in problems.elements()]
        for letter, question in SHORT_QUESTIONS[kind].items():
            sentences = [sentence for label, sentence in labelled if label == letter]
            if (kind, letter) == ("vehicle", "b") and glued_question == "as_published":
                question += GLUED
            if sentences:
                samples.append(_single_turn(record, question, " ".join(sentences), full_flag=0))
        samples.append(_single_turn(record, FULL_QUESTION[kind], caption, full_flag=1))
    return samples, findings


def parse_answer(answer: str | None, caption: str, *, letters: Quirk) -> tuple[list[tuple[str, str]], Counter[str]]:
    """(letter, sentence) for each line of the answer that names a sentence of the caption, and the reasons of what does not.

    A line is a number and a letter in any usual spelling; `as_published` it is two parts around one dot, the letter the first of
    a, b, c, d anywhere in the second, number 0 the last sentence, and a sentence may have two letters. The published run ends at
    any other line; here it is counted in both cases.
    """
    if answer is None:
        return [], Counter({"no answer": 1})
    published = letters == "as_published"
    sentences = _published_sentences(caption) if published else split_sentences(caption)
    labelled: list[tuple[str, str]] = []
    problems: Counter[str] = Counter()
    named: set[int] = set()
    for line in filter(str.strip, answer.split("\n")):
        number, letter = _read_published(line, last=len(sentences)) if published else _read_line(line)
        if number is None:
            problems["line without number and letter"] += 1
        elif number not in sentences:
            problems["no such sentence"] += 1
        elif number in named and not published:
            problems["sentence with two letters"] += 1
        else:
            named.add(number)
            labelled.append((letter, f"{sentences[number].strip()}."))
    problems["sentence without a letter"] = len(sentences) - len(named)
    return labelled, +problems


def stand_in(request: Request) -> str:
    """What the offline stand-in answers to a request of `build_requests`: `<number>.<letter>` per sentence."""
    prompt = request.messages[-1]["content"]
    kind = next(kind for kind in KINDS if OPTIONS[kind] in prompt)
    numbered = NUMBERED.findall(prompt.partition(TEXT_FOLLOWS)[2])
    return "\n".join(f"{number}.{classify(sentence, kind)}" for number, sentence in numbered)


def classify(sentence: str, kind: Kind) -> str:
    """The letter of the topic that the sentence shows most signs of; e, the summary, if it shows none."""
    letters = TOPIC_LETTERS[kind]
    return letters[max(letters, key=lambda topic: len(SIGNS[topic].findall(sentence)))]


def _published_sentences(caption: str) -> dict[int, str]:
    """The sentences as the published merge counts them: empty ones do not count, blank ones do."""
    return dict(enumerate((piece for piece in f"{caption} ".split(". ") if piece), start=1))


def _read_line(line: str) -> tuple[int, str] | tuple[None, None]:
    """Number and letter of a line such as `1. a`, `1) A`, `1: Option a`, `1.a (age)`; nothing for any other."""
    match = ANSWER_LINE.match(line)
    return (int(match[1]), match[2].lower()) if match else (None, None)


def _read_published(line: str, *, last: int) -> tuple[int, str] | tuple[None, None]:
    """Number and letter by the published rule: e where none of a, b, c, d occurs, the last sentence for number 0."""
    parts = line.split(".")
    if len(parts) != 2 or not re.fullmatch(r"\s*\d{1,4}\s*", parts[0]):
        return None, None
    return int(parts[0]) or last, next((letter for letter in "abcd" if letter in parts[1].lower()), "e")


def _single_turn(record: Record, question: str, answer: str, *, full_flag: int) -> Record:
    """The record with one question and its answer in place of its conversation."""
    turns = [{"from": "human", "value": f"{IMAGE}{question}"}, {"from": "gpt", "value": answer}]
    return record | {"conversations": turns, "full_flag": full_flag}
