"""What the tiny LLaVA base of snapshots reads and says: the words of LLaVA-1.5's questions, and lists of what a picture shows.

Of how a vehicle moves it says what can be seen, brake lights or streaks, and never what follows from that: which question a data
engine can find missing, and teach.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.random import Generator

from lib import base_texts, word_tokenizer
from lib.conversation import IMAGE, VICUNA_V1, Rendered, Turn, render
from lib.scenes import ATTRIBUTES, View

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END, IMAGE)
DESCRIBED = {"picture": tuple(ATTRIBUTES)}
_LABELS = {
    "weather": "weather", "road": "road", "age": "age", "upper": "colour above", "lower": "colour below",
    "vehicle_colour": "colour of the vehicle", "vehicle_type": "kind of vehicle", "position": "position", "movement": "movement",
    "sight": "line of sight", "driving": "signs of the vehicle",
}  # fmt: skip
# How a vehicle moves is not said, only what shows it.
SIGNS = {"stopped": "brake lights", "slow": "white lamp", "turning": "both indicators", "fast": "long streaks"}
LISTED_SHARE, ASKED = 0.3, 5
SHORT = "\nAnswer the question using a single word or phrase."
REQUESTS = ("Describe the picture.", "What is in the picture?", "Provide a one-sentence caption for the provided image.")

# Words of LLaVA-1.5's questions and answers, and of everyday.
WORDS = """
Answer the question using a single word or phrase. Answer with the option's letter from the given choices directly. A. B. C. D. E.
Provide a one-sentence caption for the provided image. Describe the picture. Please answer yes or no. Yes No
Reference OCR token: Question: Choices: Context: The answer is Explanation: Unanswerable
What Which Where How Who Is Are Does Do There This These It In On At To Of Here old many much like look looks worn seen
is are was the a an of in on at to by from with and or not no yes this that these here there who what which where how does do
weather road kind happens place age pedestrian person vehicle colour color clothing above below position movement move line sight
driving picture image shows scene first second left right near far top bottom
Hello hello hi you can me tell something please thank thanks sure good day morning name help story word words today I am my your nice
one two three four five six seven eight nine ten 0 1 2 3 4 5 6 7 8 9
A kind of Is it right that Where does this happen A question about the When the provided information is insufficient respond with
'Unanswerable'
"""


def build_tokenizer(vocabulary: int) -> "PreTrainedTokenizerFast":
    """A tokenizer with the special tokens and the words of all texts; raises ConfigError where the vocabulary has too few places."""
    return word_tokenizer.build(texts(), vocabulary, special=SPECIAL, begin=BEGIN, end=END, named={"image_token": IMAGE})


def texts() -> list[str]:
    """Everything the base may read or say, for the vocabulary: whole texts, and every word of WORDS as it stands inside a text."""
    whole = [VICUNA_V1.system, VICUNA_V1.user[0], VICUNA_V1.assistant[0], *REQUESTS]
    whole += [base_texts.list_statements(f"{_LABELS[name]}: {value}" for value in values) for name, values in ATTRIBUTES.items()]
    whole += [base_texts.list_statements(f"{_LABELS['driving']}: {sign}" for sign in SIGNS.values())]
    words = [word for text in (WORDS, *whole) for word in text.split()]
    return [*whole, *words, *(f" {word}" for word in words)]


def draw_conversation(values: dict[str, str], view: View, rng: Generator) -> Rendered:
    """The list, or questions about single attributes in any order."""
    return conversation("picture", values, view, rng) if rng.random() < LISTED_SHARE else questions(values, rng)


def conversation(kind: str, values: dict[str, str], view: View, rng: Generator) -> Rendered:
    """The list of this kind (there is one), asked for in drawn words and given."""
    asked = REQUESTS[rng.integers(len(REQUESTS))]
    return render([Turn("user", f"{IMAGE}\n{asked}"), Turn("assistant", list_of(values, DESCRIBED[kind]))], VICUNA_V1)


def list_of(values: dict[str, str], names: Sequence[str]) -> str:
    """What a picture shows of these attributes, as one text."""
    stated = _stated("picture", values)
    return base_texts.list_statements(stated[name][0] for name in names)


def questions(values: dict[str, str], rng: Generator) -> Rendered:
    """Questions about some attributes, each answered by what is seen of it."""
    stated, turns = _stated("picture", values), []
    for place in rng.permutation(len(stated))[:ASKED]:
        name = DESCRIBED["picture"][place]
        asked = f"What is the {_LABELS[name]}?{SHORT if rng.random() < 0.5 else ''}"
        turns += [Turn("user", asked if turns else f"{IMAGE}\n{asked}"), Turn("assistant", stated[name][1])]
    return render(turns, VICUNA_V1)


def value_places(kind: str, values: dict[str, str], tokenizer: "PreTrainedTokenizerFast") -> dict[str, slice]:
    """Which tokens of the list are what is said of each attribute."""
    return base_texts.locate(_stated(kind, values), tokenizer)


def _stated(kind: str, values: dict[str, str]) -> dict[str, tuple[str, str]]:
    """(statement, what it says) of each attribute."""
    seen = values | {"driving": SIGNS[values["driving"]]}
    return {name: (f"{_LABELS[name]}: {seen[name]}", seen[name]) for name in DESCRIBED[kind]}
