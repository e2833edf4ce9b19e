"""What can be asked about a toy picture: each attribute's question type, how it is asked for, and the sentence that states its value."""

import re
from dataclasses import dataclass

from lib.scenes import ATTRIBUTES


@dataclass(frozen=True)
class Fact:
    """One attribute of the traffic world. `statement` has one place, for the value; `type` is one of question_types.SEED_TYPES."""

    attribute: str
    type: str
    questions: tuple[str, ...]
    statement: str

    @property
    def values(self) -> tuple[str, ...]:
        """All values it may have, at least four."""
        return ATTRIBUTES[self.attribute]


_FACTS = (
    Fact("weather", "Scene Understanding", ("What is the weather like?", "How is the weather?"), "The weather is {}."),
    Fact("road", "Scene Understanding", ("What kind of road is this?", "Where does this happen?"), "The kind of road is {}."),
    Fact("age", "Instance Identity", ("What is the age of the pedestrian?", "How old is the person?"), "The age of the pedestrian is {}."),
    Fact("vehicle_type", "Instance Identity", ("What kind of vehicle is this?", "Which vehicle is here?"), "The kind of vehicle is {}."),
    Fact("upper", "Instance Attributes", ("What colour is worn above?", "Which colour is the clothing above?"), "The colour worn above is {}."),
    Fact("lower", "Instance Attributes", ("What colour is worn below?", "Which colour is the clothing below?"), "The colour worn below is {}."),
    Fact("vehicle_colour", "Instance Attributes", ("What colour is the vehicle?", "Which colour is the vehicle?"), "The colour of the vehicle is {}."),
    Fact("position", "Instance Location", ("Where is the pedestrian?", "What is the position of the person?"), "The position of the pedestrian is {}."),
    Fact("movement", "Instance Interaction", ("What is the movement of the pedestrian?", "How does the person move?"), "The movement of the pedestrian is {}."),
    Fact("sight", "Instance Interaction", ("What is the line of sight of the pedestrian?", "Where does the person look?"), "The line of sight of the pedestrian is {}."),
    Fact("driving", "Visual Reasoning", ("What is the driving of the vehicle?", "How does the vehicle move?"), "The driving of the vehicle is {}."),
)  # fmt: skip
FACTS: dict[str, Fact] = {fact.attribute: fact for fact in _FACTS}


def statements(values: dict[str, str]) -> list[str]:
    """A sentence per attribute, in the order of FACTS."""
    return [fact.statement.format(values[name]) for name, fact in FACTS.items()]


def read_statement(sentence: str) -> tuple[str, str] | None:
    """The attribute and the value that a sentence states; None for any other sentence."""
    for name, fact in FACTS.items():
        before, after = fact.statement.split("{}")
        found = re.fullmatch(re.escape(before) + "(.+)" + re.escape(after), sentence.strip())
        if found and found[1] in fact.values:
            return name, found[1]
    return None


def of_type(type_: str) -> list[Fact]:
    """The attributes that questions of this type are about."""
    return [fact for fact in _FACTS if fact.type == type_]
