"""The captions of the toy data: seven sentences about the pedestrian or the vehicle, and the values they name read back.

As in the published captions a sentence speaks of one thing (appearance, position, sight and movement, driving, surroundings), and the
same thing is said in several ways, a usual and a rarer one: frame and wording of each clause are drawn, and so is whether the
surroundings come first; what is urgent, a running pedestrian or a fast vehicle, comes before the rest. Most words depend on what is
seen, so that a caption which fits another scene shares little but its frames with this one.
"""

from typing import Literal

from numpy.random import Generator

from lib.scenes import ATTRIBUTES

Kind = Literal["pedestrian", "vehicle"]

# What a caption of each kind names, and how often a guess among all values would be right.
NAMED: dict[Kind, tuple[str, ...]] = {
    "pedestrian": ("weather", "road", "age", "upper", "lower", "position", "movement", "sight"),
    "vehicle": ("weather", "road", "age", "upper", "lower", "vehicle_colour", "vehicle_type", "position", "driving"),
}
CHANCE = {name: 1 / len(values) for name, values in ATTRIBUTES.items()}

_Wordings = dict[str, tuple[str, ...]]
_WORDINGS: dict[str, _Wordings] = {
    "weather": {
        "clear": ("sunshine is bright under a clear blue sky", "the sun shines and no cloud can be seen"),
        "cloudy": ("thick grey clouds cover the whole sky", "the day is dull and completely overcast"),
        "rainy": ("rain is pouring and everything is wet", "it is raining heavily from a dark sky"),
        "snowy": ("snowflakes fall and the air is freezing", "it is snowing on a cold winter day"),
    },
    "road": {
        "intersection": ("at an intersection with white zebra stripes", "on the broad crosswalk of an intersection"),
        "main road": ("along a main road with yellow lane markings", "on dark asphalt of a busy main road"),
        "residential street": ("in a residential street paved with red bricks", "between the hedges of a residential street"),
        "parking lot": ("inside a parking lot with slanted bays", "among the marked spaces of a parking lot"),
    },
    "age": {
        "child": ("a small child in a yellow school cap", "a little child below ten years"),
        "teenager": ("a slim teenager who carries a satchel", "a young teenager with reddish hair"),
        "adult": ("a grown adult with a leather briefcase", "an adult in the thirties with black hair"),
        "elderly": ("an elderly person leaning on a stick", "an elderly citizen whose hair is white"),
    },
    "upper": {
        "red": ("red jacket",),
        "yellow": ("yellow raincoat",),
        "white": ("white shirt",),
        "orange": ("orange vest",),
        "purple": ("purple sweater",),
    },
    "lower": {
        "black": ("black trousers",),
        "brown": ("brown corduroys",),
        "pink": ("pink leggings",),
        "grey": ("grey slacks",),
        "blue": ("blue jeans",),
    },
    "vehicle_type": {
        "sedan": ("low {} sedan with four doors",),
        "van": ("boxy {} van for small deliveries",),
        "truck": ("heavy {} truck loaded with cargo",),
        "bus": ("long {} bus full of passengers",),
    },
    "position": {
        "near left": ("very close by on the left side", "hardly one step off to the left"),
        "near right": ("very close by on the right side", "hardly one step off to the right"),
        "far left": ("many meters away towards the left edge", "at a great distance on the left"),
        "far right": ("many meters away towards the right edge", "at a great distance on the right"),
    },
    "movement": {
        "standing": ("is standing still without taking a step", "remains upright and does not move at all"),
        "walking": ("is walking forward at an ordinary pace", "walks on calmly with even steps"),
        "running": ("is running fast with long hurried strides", "runs in haste and raises some dust"),
        "crouching": ("has crouched down near the ground", "is crouching low with folded knees"),
    },
    "sight": {
        "traffic": ("fixed on the approaching vehicle", "directed straight at the vehicle"),
        "ahead": ("open wide and turned to the front", "aimed ahead at whatever comes next"),
        "behind": ("turned back over the other shoulder", "cast behind as if someone followed"),
        "telephone": ("lowered to a shining telephone screen", "absorbed by messages on the telephone"),
    },
    "driving": {
        "stopped": ("has stopped with glowing brake lights at 0 km/h", "is halted and waits with the brakes applied"),
        "slow": ("is creeping along slowly at about 5 km/h", "rolls straight ahead slowly with its lamp lit"),
        "turning": ("is turning the corner with flashing indicators", "steers into a turning curve at 15 km/h"),
        "fast": ("is speeding along rapidly at more than 50 km/h", "accelerates strongly and leaves streaks in the air"),
    },
}
_COLOURED = {name: phrases[0] for name, phrases in _WORDINGS["vehicle_type"].items()}

_FRAMES: dict[str, tuple[str, ...]] = {
    "who": ("The pedestrian is {age}.", "The person observed here is {age}."),
    "clothes": ("A {upper} is worn together with {lower}.", "The clothing consists of a {upper} and {lower}."),
    "pedestrian position": ("Seen from the vehicle, the pedestrian is {position}.", "The pedestrian is located {position} of the vehicle."),
    "sight": ("The eyes are {sight}.", "The line of sight is {sight}."),
    "movement": ("The pedestrian {movement}.", "At this moment the person {movement}."),
    "weather": ("Around them {weather}.", "As for the weather, {weather}."),
    "road": ("All this happens {road}.", "The scene takes place {road}."),
    "what": ("The vehicle is a {vehicle}.", "The vehicle concerned is a {vehicle}."),
    "vehicle position": ("The pedestrian appears {position}.", "From its seat the pedestrian is {position}."),
    "driving": ("The vehicle {driving}.", "Right now the vehicle {driving}."),
    "whom": ("It meets {age} in a {upper} and {lower}.", "Before it there is {age} in a {upper} and {lower}."),
}
USUAL_SHARE = 0.8  # of all frames and wordings the first one is used this often
SURROUNDINGS_FIRST = 0.25  # share of captions that begin with weather and road


def pedestrian_caption(values: dict[str, str], rng: Generator) -> str:
    """Seven sentences about the pedestrian; `values` as of Scene.values."""
    sentences = [_say(frame, values, rng) for frame in ("who", "clothes", "pedestrian position", "sight")]
    sentences.insert(0 if values["movement"] == "running" else 4, _say("movement", values, rng))
    return _with_surroundings(sentences, values, rng)


def vehicle_caption(values: dict[str, str], rng: Generator) -> str:
    """Six sentences about the vehicle, the pedestrian it meets among them; `values` as of Scene.values."""
    sentences = [_say(frame, values, rng) for frame in ("what", "vehicle position", "whom")]
    sentences.insert(0 if values["driving"] == "fast" else 2, _say("driving", values, rng))
    return _with_surroundings(sentences, values, rng)


def clauses(caption: str) -> dict[str, str | None]:
    """The value of every attribute that the caption names, in whatever sentence; None where it names none or several."""
    text, found = caption.lower(), {}
    for attribute, values in ATTRIBUTES.items():
        named = [value for value in values if any(phrase in text for phrase in _phrases(attribute, value))]
        found[attribute] = named[0] if len(named) == 1 else None
    return found


def _phrases(attribute: str, value: str) -> tuple[str, ...]:
    """All phrases that name this value."""
    if attribute == "vehicle_colour":
        return tuple(f" {value} {name} " for name in _COLOURED)
    if attribute == "vehicle_type":
        return (f" {value} {_COLOURED[value].partition('{} ')[2].partition(' ')[2]}",)
    return _WORDINGS[attribute][value]


def _say(frame: str, values: dict[str, str], rng: Generator) -> str:
    """One sentence in one of its frames, every clause in one of its wordings."""
    worded = {name: _one(rng, wordings[values[name]]) for name, wordings in _WORDINGS.items()}
    worded["vehicle"] = worded["vehicle_type"].format(values["vehicle_colour"])
    return _one(rng, _FRAMES[frame]).format(**worded)


def _with_surroundings(sentences: list[str], values: dict[str, str], rng: Generator) -> str:
    surroundings = [_say(frame, values, rng) for frame in ("weather", "road")]
    return " ".join([*surroundings, *sentences] if rng.random() < SURROUNDINGS_FIRST else [*sentences, *surroundings])


def _one(rng: Generator, wordings: tuple[str, ...]) -> str:
    if len(wordings) == 1 or rng.random() < USUAL_SHARE:
        return wordings[0]
    return wordings[rng.integers(1, len(wordings))]
