"""What the tiny LLaVA base reads and says: a tokenizer that knows the words of the traffic world, requests, and captions.

The wording is plain, always the same, and the base's own: a list of what can be seen. Words of the published questions and words that
a description of traffic may use are in the vocabulary as well, one token each, the way a large model knows them; anything else is
written byte by byte.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from numpy.random import Generator

from lib import word_tokenizer
from lib.conversation import CHATML_DIRECT, IMAGE, Rendered, Turn, render
from lib.scenes import ATTRIBUTES, View

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BEGIN, END, OPEN, UNKNOWN = "<|startoftext|>", "<|im_end|>", "<|im_start|>", "<unk>"
SPECIAL = (UNKNOWN, BEGIN, OPEN, END, IMAGE)
STAGES = ("prerecognition", "recognition", "judgement", "action", "avoidance")

# Both kinds of caption name everything, so that all of it is learned, but each begins with its own.
DESCRIBED = {
    "pedestrian": (
        "age", "upper", "lower", "position", "movement", "sight", "weather", "road", "vehicle_colour", "vehicle_type", "driving",
    ),
    "vehicle": (
        "vehicle_colour", "vehicle_type", "driving", "position", "weather", "road", "age", "upper", "lower", "movement", "sight",
    ),
}  # fmt: skip
_STATEMENTS = {
    "weather": "weather: {}",
    "road": "road: {}",
    "age": "age: {}",
    "upper": "above: {}",
    "lower": "below: {}",
    "vehicle_colour": "colour of the vehicle: {}",
    "vehicle_type": "kind of vehicle: {}",
    "position": "position: {}",
    "movement": "movement: {}",
    "sight": "line of sight: {}",
    "driving": "driving: {}",
}
_SUBJECTS = {"pedestrian": "the pedestrian in the green bounding box", "vehicle": "the vehicle in the blue bounding box"}
ADORNED_SHARE = 0.3  # of the requests for a caption that name the stage, and of those that say what the picture shows
_TOPICS = ("age", "height", "clothing", "line of sight", "relative position", "movement status", "weather conditions", "road environment")

# Words of traffic and of everyday: the published questions, and what descriptions of people, vehicles, roads and weather use.
WORDS = """
This is an image in 'prerecognition' stage. This is an image in 'recognition' stage. This is an image in 'judgement' stage.
This is an image in 'action' stage. This is an image in 'avoidance' stage.
This picture shows the relationship between the pedestrian in the green bounding box and the vehicle in the blue bounding box.
This picture shows the relationship between the vehicle and the ego-vehicle. Describe the ego-vehicle based on the relative position to
the pedestrian, driving status, weather conditions and road environment. And describe the age, height, clothing of the pedestrian or the
pedestrian closest to the vehicle based on line of sight, movement status. Describe the position of the pedestrian in the green box.
Around As At Before From It Right Seen There Here He She They Their His Her When While No Both On In With By Above Below Behind
Rain Snow Sun Clouds The A An All Driver Person People Who What Where How Which
sunshine bright under clear blue sky sun shines no cloud can be seen thick grey clouds cover whole day dull and completely overcast
rain pouring everything wet it is raining heavily from a dark snowflakes fall air freezing snowing cold winter
at an intersection with white zebra stripes on broad crosswalk of along main road yellow lane markings asphalt busy
in residential street paved red bricks between hedges inside parking lot slanted bays among marked spaces
small child school cap little below ten years slim teenager who carries satchel young reddish hair grown adult leather briefcase
thirties black elderly person leaning stick citizen whose hair
red jacket yellow raincoat white shirt orange vest purple sweater black trousers brown corduroys pink leggings grey slacks blue jeans
low sedan four doors boxy van for deliveries heavy truck loaded cargo long bus full passengers
very close by left side hardly one step off to right many meters away towards edge great distance
standing still without taking remains upright does not move walking forward ordinary pace walks calmly even steps
running fast hurried strides runs haste raises some dust has crouched down near ground crouching folded knees
fixed approaching directed straight open wide turned front aimed ahead whatever comes next back over other shoulder cast behind if
someone followed lowered shining telephone screen absorbed messages
stopped glowing brake lights 0 km/h halted waits brakes applied creeping slowly about 5 rolls its lamp lit turning corner flashing
indicators steers into curve 15 speeding rapidly more than 50 accelerates strongly leaves streaks
are all as observed here worn together clothing consists located eyes line sight this moment them for weather happens scene takes place concerned
appears seat now meets before there
"""


def build_tokenizer(vocabulary: int) -> "PreTrainedTokenizerFast":
    """A tokenizer with the special tokens and every word of `texts`; raises ConfigError where the vocabulary has too few places."""
    named = {"image_token": IMAGE, "open_token": OPEN}
    return word_tokenizer.build(texts(), vocabulary, special=SPECIAL, begin=BEGIN, end=END, named=named)


def texts() -> list[str]:
    """Everything the base may read or say, for the vocabulary: whole texts, and every word of WORDS as it stands inside a text."""
    found = [CHATML_DIRECT.system, CHATML_DIRECT.user[0], CHATML_DIRECT.assistant[0]]
    found += list(_STATEMENTS.values())
    found += [value for values in ATTRIBUTES.values() for value in values]
    found += [f" {word}" for text in (WORDS, *found) for word in text.split()]
    found += [word for word in WORDS.split() if word[0].isupper()]
    return [re.sub(r"<\|im_start\|>|<\|im_end\|>", "", text) for text in found]


def draw_conversation(values: dict[str, str], view: View, rng: Generator) -> Rendered:
    """One of the two captions, asked for and given."""
    return conversation(tuple(DESCRIBED)[rng.integers(len(DESCRIBED))], values, view, rng)


def conversation(kind: str, values: dict[str, str], view: View, rng: Generator) -> Rendered:
    """A caption of this kind, asked for in drawn words and given."""
    turns = [Turn("user", f"{IMAGE}\n{ask(kind, view, rng)}"), Turn("assistant", describe(kind, values))]
    return render(turns, CHATML_DIRECT)


def ask(kind: str, view: View, rng: Generator) -> str:
    """A request for a caption, short or long; seen from the vehicle, it may be called the ego-vehicle."""
    own = view == "vehicle" and rng.random() < 0.5
    names = _SUBJECTS | ({"vehicle": "the ego-vehicle"} if own else {})
    other = names["vehicle" if kind == "pedestrian" else "pedestrian"]
    stage = f"This is an image in '{STAGES[rng.integers(len(STAGES))]}' stage. " if rng.random() < ADORNED_SHARE else ""
    shows = f"This picture shows the relationship between {names[kind]} and {other}. " if rng.random() < ADORNED_SHARE else ""
    chosen = [_TOPICS[place] for place in sorted(rng.permutation(len(_TOPICS))[: rng.integers(4)])]
    return f"{stage}{shows}Describe {names[kind]}{' based on ' if chosen else ''}{', '.join(chosen)}."


def describe(kind: str, values: dict[str, str]) -> str:
    """A caption: a plain statement of all that the kind names."""
    return list_statements(_STATEMENTS[name].format(values[name]) for name in DESCRIBED[kind])


def value_places(kind: str, values: dict[str, str], tokenizer: "PreTrainedTokenizerFast") -> dict[str, slice]:
    """Which tokens of the caption are each attribute's value."""
    return locate({name: (_STATEMENTS[name].format(values[name]), values[name]) for name in DESCRIBED[kind]}, tokenizer)


def list_statements(statements: Iterable[str]) -> str:
    """Statements such as "age: child" as one text."""
    return ", ".join(statements) + "."


def locate(statements: Mapping[str, tuple[str, str]], tokenizer: "PreTrainedTokenizerFast") -> dict[str, slice]:
    """Which tokens of the listed statements are each one's value, with which it ends; given as (statement, value) by name."""
    places, end, between = {}, 0, ""
    for name, (statement, value) in statements.items():
        end += _count(f"{between}{statement}", tokenizer)
        places[name], between = slice(end - _count(f" {value}", tokenizer), end), ", "
    return places


def _count(text: str, tokenizer: "PreTrainedTokenizerFast") -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
