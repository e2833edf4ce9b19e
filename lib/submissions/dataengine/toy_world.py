"""Toy pictures and what is asked about them: snapshots written below a root, their values remembered, questions with known answers."""

import base64
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from numpy.random import Generator, default_rng

from lib import scenes, snapshots
from lib.snapshots import Snapshot
from lib.submissions.dataengine import wording
from lib.submissions.dataengine.facts import FACTS, Fact, of_type
from lib.submissions.dataengine.question_types import SEED_TYPES

Choice = TypeVar("Choice")

SEED_NUMBERS = {type_: number for number, type_ in SEED_TYPES.items()}
TYPES = tuple(dict.fromkeys(fact.type for fact in FACTS.values()))

QUALITY = 92
OPTIONS = 4
MOST_WRONG = 3  # of ten human answers
TEN = 10


@dataclass(frozen=True)
class Seen:
    """What a picture shows, by attribute, and its snapshot."""

    values: dict[str, str]
    snapshot: Snapshot


@dataclass(frozen=True)
class Question:
    """A question about one attribute, with four options of which the one numbered `right` is the picture's value."""

    fact: Fact
    text: str
    options: tuple[str, ...]
    right: int

    @property
    def answer(self) -> str:
        """The picture's value."""
        return self.options[self.right]

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return wording.LETTERS[self.right]

    @property
    def wrong(self) -> tuple[str, ...]:
        """The other options."""
        return tuple(option for number, option in enumerate(self.options) if number != self.right)

    @property
    def statement(self) -> str:
        """The sentence that states the answer."""
        return self.fact.statement.format(self.answer)


@dataclass(frozen=True)
class Album:
    """Writes toy files below `root`, from generators that depend on seed, part and number alone; `answers` are the values by picture."""

    root: Path
    seed: int
    answers: dict[str, dict[str, str]] = field(default_factory=dict)

    def rng(self, part: str, number: int) -> Generator:
        """The generator of one picture or sample of a part."""
        return default_rng([self.seed, zlib.crc32(part.encode()), number])

    def add(self, path: str, rng: Generator, *, form: str = "JPEG") -> Seen:
        """A new picture at this path below the root."""
        seen = self.look(path, rng)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode(seen, form))
        return seen

    def look(self, name: str, rng: Generator) -> Seen:
        """A new picture that is written elsewhere; its values are remembered by this name."""
        scene = scenes.random_scene(rng, 1)
        self.answers[name] = scene.values(0)
        return Seen(scene.values(0), snapshots.take(scene, rng))

    def write_json(self, path: str, value: object) -> None:
        """Without waiting for the disk, unlike `files`: only the answers, written last, have to be safe."""
        self.write_text(path, json.dumps(value, ensure_ascii=False) + "\n")

    def write_lines(self, path: str, rows: list[dict]) -> None:
        """One object per line, as `write_json`."""
        self.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def write_text(self, path: str, text: str) -> None:
        """Any text, as `write_json`; line ends stay as they are."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")


def encode(seen: Seen, form: str) -> bytes:
    """The picture as the bytes of a file."""
    content = io.BytesIO()
    seen.snapshot.picture.save(content, form, **({"quality": QUALITY} if form == "JPEG" else {}))
    return content.getvalue()


def encode_base64(seen: Seen) -> str:
    """The picture as text."""
    return base64.b64encode(encode(seen, "JPEG")).decode("ascii")


def ask(rng: Generator, values: dict[str, str], type_: str) -> Question:
    """A question of this type about a picture with these values; attribute, wording, options and their order are drawn."""
    fact = _pick(rng, of_type(type_))
    value = values[fact.attribute]
    others = [other for other in fact.values if other != value]
    chosen = [value, *rng.permutation(others)[: OPTIONS - 1]]
    options = tuple(str(chosen[number]) for number in rng.permutation(OPTIONS))
    return Question(fact, _pick(rng, fact.questions), options, options.index(value))


def ask_whether(rng: Generator, question: Question, *, is_so: bool) -> str:
    """A question about the same attribute, to be answered with yes if `is_so`, else with no."""
    statement = state(rng, question, is_so=is_so).removesuffix(".")
    return f"Is it right that {statement[0].lower()}{statement[1:]}?"


def state(rng: Generator, question: Question, *, is_so: bool) -> str:
    """A sentence that states the right answer if `is_so`, else a wrong one."""
    return question.fact.statement.format(question.answer if is_so else _pick(rng, question.wrong))


def ten_answers(rng: Generator, right: str, wrong: tuple[str, ...]) -> list[str]:
    """Ten human answers, at least seven of them right."""
    mistaken = int(rng.integers(MOST_WRONG + 1))
    answers = [right] * (TEN - mistaken) + [_pick(rng, wrong) for _ in range(mistaken)]
    return [answers[number] for number in rng.permutation(TEN)]


def type_of(number: int) -> str:
    """The types in turn."""
    return TYPES[number % len(TYPES)]


def _pick(rng: Generator, values: Sequence[Choice]) -> Choice:
    return values[int(rng.integers(len(values)))]
