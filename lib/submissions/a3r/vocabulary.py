"""The vehicle vocabulary (colours, types, brands): derived from label phrases, kept as car_attribute.json, used to route queries.

Also routes gallery images by their file name. Rules: specs/a3r.md 1.2, 1.5, 1.6.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lib.errors import DataError
from lib.files import read_json, write_text
from lib.submissions.a3r.labels import Kind, numbered_lines, shown

# A capitalised word is one capital and at least one letter or hyphen: "Audi", "MORRIS-GARAGE", but not the article "A".
CAPITALISED = r"[A-Z][A-Za-z-]+(?: [A-Z][A-Za-z-]+)*"
# First reading: anchored at the start only, so "white Audi SUV" would give the brand "Audi SUV".
COLOR_AND_BRAND = re.compile(rf"([a-z]+(?: [a-z]+)?) ({CAPITALISED})")
# Second reading: anchored at the end only.
TYPE_OR_BRAND = re.compile(rf"({CAPITALISED})$")
# The only brand of one word that stands without a colour; every other single word is a type (specs/a3r.md 1.5).
LONE_BRAND = "Hongyan"
KEYS = ("Colors", "Types", "Brands")

PEDESTRIAN_IMAGE = re.compile(r"[0-9]+\.[A-Za-z]+")
VEHICLE_IMAGE = re.compile(r"(?:vehicle_[0-9]+|[a-z]+)\.[A-Za-z]+")


@dataclass(frozen=True)
class Vocabulary:
    """The words a vehicle caption is made of; the order inside each list is the order of the candidates."""

    colors: tuple[str, ...]
    types: tuple[str, ...]
    brands: tuple[str, ...]


@dataclass(frozen=True)
class Query:
    """One query: its position in the query file (from 0) and its stripped text."""

    index: int
    text: str


def derive_vocabulary(phrases: Iterable[str]) -> Vocabulary:
    """The vocabulary of vehicle attribute phrases (without their final dot), each list sorted.

    Phrases that neither reading fits add nothing: `count_unread` names them.
    """
    colors: set[str] = set()
    types: set[str] = set()
    brands: set[str] = set()
    for phrase in set(phrases):
        both = COLOR_AND_BRAND.match(phrase)
        if both:
            colors.add(both.group(1))
            brands.add(both.group(2))
            continue
        lone = TYPE_OR_BRAND.search(phrase)
        if lone:
            word = lone.group(1)
            (brands if " " in word or word == LONE_BRAND else types).add(word)
    return Vocabulary(tuple(sorted(colors)), tuple(sorted(types)), tuple(sorted(brands)))


def count_unread(phrases: Iterable[str]) -> dict[str, int]:
    """How often each phrase occurs from which `derive_vocabulary` learns nothing, the most frequent first."""
    unread = Counter(phrase for phrase in phrases if not COLOR_AND_BRAND.match(phrase) and not TYPE_OR_BRAND.search(phrase))
    return dict(unread.most_common())


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write car_attribute.json as published: one line without line end, keys Colors, Types, Brands."""
    lists = (vocabulary.colors, vocabulary.types, vocabulary.brands)
    write_text(path, json.dumps({key: list(words) for key, words in zip(KEYS, lists, strict=True)}))


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a car_attribute.json. Raises DataError for other keys, empty or repeated words."""
    value = read_json(path)
    if not isinstance(value, dict) or set(value) != set(KEYS):
        found = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{path}: found {found or 'no key'}; a vocabulary has exactly the keys Colors, Types, Brands")
    for key in KEYS:
        _check_words(path, key, value[key])
    return Vocabulary(*(tuple(value[key]) for key in KEYS))


def _check_words(path: Path, key: str, words: object) -> None:
    """Raise DataError unless `words` is a list of different, filled strings."""
    if not isinstance(words, list):
        raise DataError(f"{path}: {key} is {shown(str(words))}; expected a list of words")
    for position, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise DataError(f"{path}: {key}[{position}] is {word!r}; expected a word")
        if word in words[:position]:
            raise DataError(f"{path}: {key}[{position}] repeats {word!r}; keep each word once")


def is_vehicle_query(line: str, vocabulary: Vocabulary, *, whole_words: bool) -> bool:
    """Whether a query names a type or brand (case matters, colours do not count).

    As published any substring counts ("Minicooper" holds "Mini"); with `whole_words` only words that end there, hyphens included.
    """
    words = vocabulary.types + vocabulary.brands
    if not whole_words:
        return any(word in line for word in words)
    return bool(words) and _whole_words(words).search(line) is not None


@lru_cache(maxsize=8)
def _whole_words(words: tuple[str, ...]) -> re.Pattern[str]:
    """The pattern that finds any of the words standing on its own."""
    return re.compile(rf"(?<![\w-])(?:{'|'.join(re.escape(word) for word in words)})(?![\w-])")


def route_queries(lines: Sequence[str], vocabulary: Vocabulary, *, whole_words: bool) -> tuple[list[Query], list[Query]]:
    """(vehicle queries, pedestrian queries), stripped, each in file order and with its index in `lines`."""
    vehicles: list[Query] = []
    pedestrians: list[Query] = []
    for index, line in enumerate(lines):
        query = Query(index, line.strip())
        (vehicles if is_vehicle_query(query.text, vocabulary, whole_words=whole_words) else pedestrians).append(query)
    return vehicles, pedestrians


def read_queries(path: Path) -> list[str]:
    """The stripped lines of a query file. Blank lines may only end it: elsewhere they would shift the server's order (DataError)."""
    lines = [(number, line.strip()) for number, line in numbered_lines(path)]
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: no query in this file; expected one sentence per line")
    for number, line in lines:
        if not line:
            raise DataError(f"{path}:{number}: blank line between queries; every line is one query, remove it or fill it")
    return [line for _, line in lines]


def write_queries(path: Path, queries: Iterable[Query]) -> None:
    """Write the texts as published: LF between lines, none at the end."""
    write_text(path, "\n".join(query.text for query in queries))


def image_kind(name: str) -> Kind:
    """The class a file name tells: digits = pedestrian; letters or vehicle_ and digits = vehicle. Else DataError."""
    if PEDESTRIAN_IMAGE.fullmatch(name):
        return "pedestrian"
    if VEHICLE_IMAGE.fullmatch(name):
        return "vehicle"
    raise DataError(
        f"image name {shown(name)} tells no class; expected 000001.jpg (pedestrian), abcdefghij.jpg or vehicle_0000001.jpg (vehicle); "
        "rename it or rank against the whole gallery"
    )


def route_gallery(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(vehicle images, pedestrian images) by file name, order kept. Raises DataError for a name that tells no class."""
    vehicles: list[str] = []
    pedestrians: list[str] = []
    for name in names:
        (vehicles if image_kind(name) == "vehicle" else pedestrians).append(name)
    return vehicles, pedestrians
