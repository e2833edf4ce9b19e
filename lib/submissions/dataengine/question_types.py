"""Types of questions: the nine of SEED-Bench and the eighteen of A-OKVQA, and the sorting of questions by a language model.

The published run ends at the first line of an answer that it cannot read (specs/dataengine.md section 2.0). Here such a line is
counted with its reason, its question stays untyped, and the number of a line, not its place, says which question it is about.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib.errors import ConfigError
from lib.services import Request
from lib.submissions.dataengine import facts
from lib.submissions.dataengine.facts import FACTS, Fact

Sample = dict[str, Any]  # question, choices, correct_choice_idx, image_id, and what else its data set says

SEED_TYPES: dict[int, str] = {
    1: "Scene Understanding",
    2: "Instance Identity",
    3: "Instance Attributes",
    4: "Instance Location",
    5: "Instances Counting",
    6: "Spatial Relation",
    7: "Instance Interaction",
    8: "Visual Reasoning",
    9: "Text Understanding",
}
AOKVQA_TYPES: tuple[str, ...] = (
    "identity_reasoning", "physical_property_reasoning", "attribute_recognition", "function_reasoning", "object_localization",
    "attribute_comparison", "nature_relation", "future_prediction", "image_scene", "spatial_relationship", "image_quality",
    "physical_relation", "action_recognition", "social_relation", "image_style", "image_emotion", "image_topic",
    "knowledge-based_reasoning",
)  # fmt: skip

DEFINITIONS: dict[str, str] = {
    "Scene Understanding": "What the picture shows as a whole: the place, the weather, the occasion.",
    "Instance Identity": "Who or what one person or object in the picture is.",
    "Instance Attributes": "How one person or object looks: its colour, shape, material or clothing.",
    "Instance Location": "In which part of the picture one person or object is.",
    "Instances Counting": "How many objects of one kind are in the picture.",
    "Spatial Relation": "How two named objects lie to each other: left or right, above or below, before or behind.",
    "Instance Interaction": "What a person or an animal does with, or towards, somebody or something else.",
    "Visual Reasoning": "What follows from the picture without being shown: a reason, a purpose, what is going on.",
    "Text Understanding": "What is written in the picture, and what it tells.",
    "identity_reasoning": "Who somebody is, such as by profession or role, concluded from clothes, tools and place.",
    "physical_property_reasoning": "What can be concluded of something's physical properties, such as speed, weight or warmth.",
    "attribute_recognition": "How something looks: its colour, shape, material, or to which kind it belongs.",
    "function_reasoning": "What an object is for, or how it is used.",
    "object_localization": "Where an object is in the picture.",
    "attribute_comparison": "What several objects have in common, or how they differ in one attribute.",
    "nature_relation": "How living things depend on each other or on what surrounds them.",
    "future_prediction": "What will happen next, judged by what can be seen now.",
    "image_scene": "In which surroundings the picture was taken: indoors or outdoors, town or country, in which weather.",
    "spatial_relationship": "How the places of two objects in the picture relate to each other.",
    "image_quality": "How good the picture is technically: sharp or blurred, bright or dark, full of contrast or flat.",
    "physical_relation": "How objects act on each other physically: touching, carrying, holding, hanging.",
    "action_recognition": "What somebody does, alone, with an object or with others.",
    "social_relation": "What people in the picture are to each other, such as family, friends or colleagues.",
    "image_style": "In which manner the picture is made: a photograph, a painting, a sketch, a drawing from a computer.",
    "image_emotion": "Which mood the picture, or a face in it, conveys.",
    "image_topic": "What the picture is about, such as a landscape, a portrait or a still life.",
    "knowledge-based_reasoning": "What can be answered only with knowledge of the world beyond the picture.",
    "ocr": "Which letters, words or numbers can be read in the picture.",
    "celebrity_recognition": "Which well-known person, place or work of art is shown.",
    "structuralized_image-text_understanding": "What a diagram, a table, a map or a form in the picture says.",
}  # fmt: skip

BATCH = 50  # questions per request
PARAMETERS: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 800, "stop": ["###"]}  # as published

TASK = (
    "Sort questions about pictures by what they ask for. Write one line per question and nothing else: the number of the question, "
    "the number of its type in brackets, the name of its type. An example of such a line: 1. (1) {example}\n\nThe types:\n"
)
QUESTIONS_FOLLOW = "\nThe questions:\n"
TYPE_LINE = re.compile(r"^\((\d+)\) ([^:\n]+): ", re.MULTILINE)
QUESTION_LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
ANSWER_LINE = re.compile(r"^\s*(\d{1,6})\s*[.):]\s*(?:\(\s*\d+\s*\))?\s*(.*?)[\s.]*$")

# Which A-OKVQA type the stand-in calls what SEED-Bench calls so.
TOY_AOKVQA: dict[str, str] = {
    "Scene Understanding": "image_scene",
    "Instance Identity": "identity_reasoning",
    "Instance Attributes": "attribute_recognition",
    "Instance Location": "object_localization",
    "Instance Interaction": "action_recognition",
    "Visual Reasoning": "physical_property_reasoning",
}
UNCLEAR = "unclear"  # what the stand-in says of a question that is not in the words of the toy world


def in_words(type_: str) -> str:
    """A type's name as prompts write it, with blanks."""
    return type_.replace("_", " ")


def define(type_: str) -> str:
    """The sentence that says what questions of this type ask for. Raises ConfigError for a type without one."""
    if type_ not in DEFINITIONS:
        raise ConfigError(f"no question type {type_!r}; there are: {', '.join(DEFINITIONS)}")
    return DEFINITIONS[type_]


def describe(sample: Mapping[str, Any], type_: str) -> str:
    """A question with options, answer and type in the words of the published `prompt` field."""
    options = " ".join(f"({chr(ord('A') + number)}) {text}" for number, text in enumerate(sample["choices"]))
    right = sample["correct_choice_idx"]
    answer = f"The answer is ({chr(ord('A') + right)}): {sample['choices'][right]}."
    return f"Question: {sample['question']}\nChoices: {options}\nAnswer: {answer}\nQuestion type: {in_words(type_)}"


def in_batches(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    """The samples by BATCH, the last batch perhaps shorter."""
    return [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]


def build_requests(samples: Sequence[Sample], types: Sequence[str], *, model: str, parameters: Mapping[str, Any]) -> list[Request]:
    """One request per batch of `in_batches`, in the same order."""
    defined = "".join(f"({number}) {in_words(type_)}: {define(type_)}\n" for number, type_ in enumerate(types, start=1))
    before = TASK.format(example=in_words(types[0])) + defined + QUESTIONS_FOLLOW
    requests = []
    for batch in in_batches(samples):
        questions = (" ".join(sample["question"].split()) for sample in batch)
        numbered = "\n".join(f"{number}. {question}" for number, question in enumerate(questions, start=1))
        requests.append(Request(model, [{"role": "user", "content": before + numbered}], parameters))
    return requests


def parse_types(reply: str | None, batch: Sequence[Sample], types: Iterable[str], *, folder: str) -> tuple[list[Sample], Counter[str]]:
    """The samples of the batch that the reply gives a type, each with `question_type`, `image_path` and `prompt`; and what was wrong.

    `image_path` is the COCO name of the picture in `folder`. The number in brackets is ignored, as published.
    """
    if reply is None:
        return [], Counter({"no answer": 1, "question without a type": len(batch)})
    names = {_fold(type_): type_ for type_ in types}
    found: dict[int, str] = {}
    problems: Counter[str] = Counter()
    for line in filter(str.strip, reply.split("\n")):
        match = ANSWER_LINE.match(line)
        if match is None:
            problems["line without number and type"] += 1
        elif not 1 <= int(match[1]) <= len(batch):
            problems["no such question"] += 1
        elif _fold(match[2]) not in names:
            problems["unknown type"] += 1
        elif int(match[1]) in found:
            problems["question with two types"] += 1
        else:
            found[int(match[1])] = names[_fold(match[2])]
    problems["question without a type"] = len(batch) - len(found)
    typed = [_add_type(sample, found[number], folder) for number, sample in enumerate(batch, start=1) if number in found]
    return typed, +problems


def group_by_type(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Type -> its samples, both in the order in which they come: the layout of the published file."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample["question_type"], []).append(sample)
    return groups


def facts_of(type_: str) -> list[Fact]:
    """What questions of this type can ask about a toy picture; `type_` of either taxonomy, as a key or in words."""
    return [fact for name in SEED_TYPES.values() for fact in facts.of_type(name) if _fold(type_) in (_fold(name), TOY_AOKVQA[name])]


def stand_in(request: Request) -> str:
    """What the offline stand-in answers to a request of `build_requests`: it knows the questions of the toy world."""
    prompt = request.messages[-1]["content"]
    listed, _, questions = prompt.partition(QUESTIONS_FOLLOW)
    types = [(number, name) for number, name in TYPE_LINE.findall(listed) if facts_of(name)]
    return "\n".join(f"{number}. {_classify(question, types)}" for number, question in QUESTION_LINE.findall(questions))


def _classify(question: str, types: Sequence[tuple[str, str]]) -> str:
    """The number and name of the listed type to which the attribute that is asked for belongs."""
    asked = [fact for fact in FACTS.values() if any(wording in question for wording in fact.questions)]
    for number, name in types:
        if any(fact in facts_of(name) for fact in asked):
            return f"({number}) {name}"
    return f"(0) {UNCLEAR}"


def _add_type(sample: Sample, type_: str, folder: str) -> Sample:
    path = f"{folder}/{int(sample['image_id']):012d}.jpg"
    return sample | {"question_type": type_, "image_path": path, "prompt": describe(sample, type_)}


def _fold(name: str) -> str:
    """A type's name as the published reader compares it."""
    return name.strip().lower().replace(" ", "_")
