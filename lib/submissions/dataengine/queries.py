"""Queries of the engine: which picture is written about, for which type of question, after which two bad cases, in which words.

Algorithm: specs/dataengine.md section 2.2. A draw is a type by its weight, two of its bad cases, and a picture that was not used yet:
by turns a CLIP neighbour of the first case's picture and any picture. Letters in shape comments: N pictures of the pool, D feature
dimensions, K neighbours. Features are computed elsewhere.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lib.errors import DataError
from lib.submissions.dataengine import question_types
from lib.submissions.dataengine.question_types import Sample

Features = NDArray[np.floating]

MOST_BOXES = 10  # pictures with more different boxes are not written about
NEEDED_CASES = 2

CAPTIONS, BOXES, TYPE, EXAMPLE = "captions", "boxes", "type", "example"  # the tags around what differs between prompts

# What follows the instructions in every prompt, in the parts and the order of the published one.
SLOTS = f"""
Now the picture to write about. Captions:
<{CAPTIONS}>
{{captions}}</{CAPTIONS}>
Objects:
<{BOXES}>
{{boxes}}</{BOXES}>
The type of the question: <{TYPE}>{{type}}</{TYPE}>. {{definition}}
Two questions of this type, about other pictures:
<{EXAMPLE}>
{{first}}
</{EXAMPLE}>
<{EXAMPLE}>
{{second}}
</{EXAMPLE}>
Write one {{type}} question about this picture in the form of the example above."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of a picture: different captions, and different box lines such as `dog : [0.1, 0.2, 0.3, 0.4]`, in file order."""

    image_id: int
    file_name: str
    captions: tuple[str, ...]
    boxes: tuple[str, ...]

    @property
    def captions_text(self) -> str:
        """A line per caption."""
        return "".join(f"{caption}\n" for caption in self.captions)

    @property
    def boxes_text(self) -> str:
        """A line per box."""
        return "".join(f"{box}\n" for box in self.boxes)


@dataclass(frozen=True)
class Pool:
    """The pictures to write about with their CLIP features (N, D), and what gives the feature (D,) of a bad case's picture.

    Features need not be normalised.
    """

    images: Sequence[ImageFacts]
    features: Features
    anchor: Callable[[Mapping[str, Any]], Features]


@dataclass(frozen=True)
class Draw:
    """What a query is made of; `examples` are two bad cases of the type, `source` says how the picture was chosen."""

    type: str
    examples: tuple[Sample, Sample]
    image: ImageFacts
    source: Literal["neighbour", "random"]


def read_facts(instances: Mapping[str, Any], captions: Mapping[str, Any]) -> list[ImageFacts]:
    """The facts of every picture of COCO's `instances` file, in its order; captions of other pictures are left aside.

    Raises DataError for a box that belongs to nothing.
    """
    names = {category["id"]: category["name"] for category in instances["categories"]}
    images = {image["id"]: image for image in instances["images"]}
    # Dictionaries keep the first of equal lines and their order.
    boxes: dict[int, dict[str, None]] = {number: {} for number in images}
    texts: dict[int, dict[str, None]] = {number: {} for number in images}
    for box in instances["annotations"]:
        if box["image_id"] not in images or box["category_id"] not in names:
            raise DataError(
                f"instances: a box of image {box['image_id']} and category {box['category_id']}, which the file does not list both; "
                "bring the file again"
            )
        boxes[box["image_id"]][_box_line(names[box["category_id"]], box["bbox"], images[box["image_id"]])] = None
    for caption in captions["annotations"]:
        if caption["image_id"] in texts:
            texts[caption["image_id"]][caption["caption"]] = None
    return [ImageFacts(number, image["file_name"], tuple(texts[number]), tuple(boxes[number])) for number, image in images.items()]


def draw(
    bad_cases: Mapping[str, Sequence[Sample]], weights: Mapping[str, float], pool: Pool, *, count: int, top_k: int, seed: int
) -> tuple[list[Draw], Counter[str]]:
    """So many draws, and what was found on the way; fewer if the pictures run out, which is found too.

    The published loop never ends when the neighbours of all bad cases are used up; here any picture is drawn from then on.
    Raises DataError if no type can be drawn.
    """
    types, chances = _drawable(bad_cases, weights)
    nearest = _neighbours(bad_cases, pool, top_k)
    rng = np.random.default_rng(seed)
    free = np.ones(len(pool.images), dtype=bool)
    neighbours_left = True
    draws: list[Draw] = []
    found: Counter[str] = Counter()
    while len(draws) < count and free.any():
        type_ = types[rng.choice(len(types), p=chances)]
        first, second = rng.choice(len(bad_cases[type_]), size=NEEDED_CASES, replace=False)
        is_turn = len(draws) % 2 == 0
        source = "neighbour" if is_turn and neighbours_left else "random"
        row = rng.choice(nearest(type_, first) if source == "neighbour" else np.flatnonzero(free))
        if not free[row]:
            found["image already used, drawn again"] += 1
            neighbours_left = any(free[nearest(other, number)].any() for other in types for number in range(len(bad_cases[other])))
            continue
        free[row] = False
        if len(pool.images[row].boxes) > MOST_BOXES:
            found[f"image with more than {MOST_BOXES} boxes, drawn again"] += 1
            continue
        found["no neighbour left, any image instead"] += is_turn and not neighbours_left
        draws.append(Draw(type_, (bad_cases[type_][first], bad_cases[type_][second]), pool.images[row], source))
    found["query without an image: the pool has run out"] = count - len(draws)
    return draws, +found


def render_prompt(drawn: Draw, instructions: str) -> str:
    """The message to the writer: the instructions, the picture's facts, the type with its definition, two bad cases, the request."""
    first, second = (question_types.describe(sample, drawn.type) for sample in drawn.examples)
    return instructions + SLOTS.format(
        captions=drawn.image.captions_text,
        boxes=drawn.image.boxes_text,
        type=question_types.in_words(drawn.type),
        definition=question_types.define(drawn.type),
        first=first,
        second=second,
    )


def build_query(drawn: Draw, instructions: str) -> dict[str, Any]:
    """The published record of a query: image_id, prompt, question_type."""
    return {"image_id": drawn.image.image_id, "prompt": render_prompt(drawn, instructions), "question_type": drawn.type}


def _box_line(name: str, box: Sequence[float], image: Mapping[str, Any]) -> str:
    """`name : [x1, y1, x2, y2]` in shares of width and height, to three places."""
    left, top, width, height = box
    across, down = image["width"], image["height"]
    corners = (left / across, top / down, (left + width) / across, (top + height) / down)
    return f"{name} : {[round(corner, 3) for corner in corners]}"


def _drawable(bad_cases: Mapping[str, Sequence[Sample]], weights: Mapping[str, float]) -> tuple[list[str], NDArray[np.float64]]:
    """The types with two bad cases and a weight above 0, and the chance of each."""
    types = [type_ for type_, cases in bad_cases.items() if len(cases) >= NEEDED_CASES and weights.get(type_, 0) > 0]
    if not types:
        counts = ", ".join(f"{type_} {len(cases)} at weight {weights.get(type_, 0)}" for type_, cases in bad_cases.items()) or "none"
        raise DataError(
            f"no question type has {NEEDED_CASES} bad cases and a weight above 0 (bad cases: {counts}); evaluate on more questions, "
            "or smooth the weights"
        )
    values = np.array([weights[type_] for type_ in types], dtype=np.float64)
    return types, values / values.sum()


def _neighbours(bad_cases: Mapping[str, Sequence[Sample]], pool: Pool, top_k: int) -> Callable[[str, int], NDArray[np.int64]]:
    """A function from type and number of a bad case to the rows (K,) of the pool nearest to its picture by cosine; each found once."""
    if pool.features.ndim != 2 or len(pool.features) != len(pool.images):
        raise DataError(
            f"features of shape {pool.features.shape} for {len(pool.images)} images; one row per image is needed, in the same order"
        )
    if top_k < 1:
        raise DataError(f"the {top_k} nearest images: at least 1 is needed")
    unit = _normalise(pool.features, "an image of the pool")

    @functools.cache
    def nearest(type_: str, number: int) -> NDArray[np.int64]:
        case = bad_cases[type_][number]
        anchor = np.asarray(pool.anchor(case)).reshape(-1)
        if anchor.shape != unit.shape[1:]:
            raise DataError(f"a feature of {anchor.size} values for {case['question']!r}, but {unit.shape[1]} for the pool; use one model")
        scores = unit @ _normalise(anchor, repr(case["question"]))  # (N,)
        return np.argsort(-scores, kind="stable")[:top_k]

    return nearest


def _normalise(features: Features, whose: str) -> Features:
    """Features of length 1 along the last axis."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise DataError(f"the feature of {whose} is zero or not finite; compute the features again")
    return features / lengths
