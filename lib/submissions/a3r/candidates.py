"""Attribute augmentation without the model: what a vehicle caption leaves open, the candidate completions, and the choice.

Three conventions exist (specs/a3r.md 2.3) and are kept apart:
    shipped   made the published augmented files: every missing part is filled, brand included; no article, no dots
    readme    what the README says: a missing brand is never invented; the caption's own article stays
    asis      what the published code does, its oddities included; a caption without colour and brand crashed it
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from lib.errors import ConfigError, DataError
from lib.submissions.a3r.labels import SEPARATOR, Label, cut_final_dot, shown
from lib.submissions.a3r.vocabulary import Vocabulary

Convention = Literal["shipped", "readme", "asis"]

CONVENTIONS = ("shipped", "readme", "asis")
KINDS = ("colors", "brands", "types")
ARTICLES = ("a", "A", "an", "An")
# The published code knows the two brands of several words by their first word, and collects the second one twice.
AS_IS_FIRST_WORDS = {"Golden": ("Golden Dragon",), "Balong": ("Balong Heavy Truck", "Balong Heavy Truck")}


@dataclass(frozen=True)
class Attributes:
    """Colours, brands and types, each in the order in which they were found; an empty tuple means missing."""

    colors: tuple[str, ...]
    brands: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def missing(self) -> frozenset[str]:
        """Which of colors, brands, types are empty."""
        return frozenset(kind for kind in KINDS if not getattr(self, kind))


def known_attributes(caption: str, vocabulary: Vocabulary, *, convention: Convention) -> Attributes:
    """The attributes a caption names after its first article.

    `asis` compares single words. The others read the longest phrase of the vocabulary at each place; in `shipped`, words inside a
    brand count as types when the caption names no other ("Balong Heavy Truck" is a Truck).
    """
    words = bare_caption(caption, convention=convention).split()
    words = words[find_article(words) + 1 :]
    if convention == "asis":
        return _known_words(words, vocabulary)
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for phrase, kinds in _phrases_in(words, vocabulary):
        for kind in kinds:
            found[kind].append(phrase)
    if convention == "shipped" and not found["types"]:
        inside = [word for brand in found["brands"] if " " in brand for word in brand.split()]
        found["types"] = [word for word in inside if word in vocabulary.types]
    return Attributes(*(tuple(dict.fromkeys(found[kind])) for kind in KINDS))


def _known_words(words: Sequence[str], vocabulary: Vocabulary) -> Attributes:
    """The attributes as the published code collects them, repetitions included."""
    colors = tuple(word for word in words if word in vocabulary.colors)
    types = tuple(word for word in words if word in vocabulary.types)
    brands: list[str] = []
    for word in words:
        brands.extend(AS_IS_FIRST_WORDS.get(word, (word,) if word in vocabulary.brands else ()))
    return Attributes(colors, tuple(brands), types)


def _phrases_in(words: Sequence[str], vocabulary: Vocabulary) -> list[tuple[str, tuple[str, ...]]]:
    """(phrase, its kinds) for each phrase of the vocabulary in the words, longest first at each place, none overlapping."""
    phrases = _phrases(vocabulary)
    longest = max((len(phrase) for phrase in phrases), default=0)
    found = []
    start = 0
    while start < len(words):
        spans = (tuple(words[start : start + length]) for length in range(longest, 0, -1))
        span = next((span for span in spans if span in phrases), None)
        if span is not None:
            found.append((" ".join(span), phrases[span]))
        start += len(span) if span else 1
    return found


@lru_cache(maxsize=8)
def _phrases(vocabulary: Vocabulary) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The words of every vocabulary entry, with the kinds it belongs to."""
    phrases: dict[tuple[str, ...], tuple[str, ...]] = {}
    for kind in KINDS:
        for entry in getattr(vocabulary, kind):
            words = tuple(entry.split())
            phrases[words] = (*phrases.get(words, ()), kind)
    return phrases


def find_article(words: Sequence[str]) -> int:
    """Position of the first of a, A, an, An; -1 if there is none."""
    return next((position for position, word in enumerate(words) if word in ARTICLES), -1)


def bare_caption(caption: str, *, convention: Convention) -> str:
    """The caption without its final dot; `asis` removes every dot of it."""
    _check_convention(convention)
    return caption.replace(".", "") if convention == "asis" else cut_final_dot(caption, final_dot="corrected")


def caption_prefix(caption: str, *, convention: Convention) -> str:
    """What stands before the attributes, with its blank: the caption's own article words (readme), a guessed article (asis), nothing."""
    _check_convention(convention)
    if convention == "readme":
        words = caption.split()
        return "".join(f"{word} " for word in words[: find_article(words) + 1])
    if convention == "asis" and caption.startswith("This"):
        return "This is a "
    # NOTE the published code looks at the first letter only, hence "A orange Audi" for "An orange Audi".
    return "A " if convention == "asis" and caption.startswith("A") else ""


def fill_attributes(known: Attributes, vocabulary: Vocabulary, *, convention: Convention) -> Attributes:
    """The attributes with the missing ones replaced by the whole vocabulary list, as far as the convention fills them."""
    _check_convention(convention)
    filled = set(known.missing)
    if convention == "readme":
        filled -= {"brands"}
    # The published code forgets the brand, and then also the type, of a caption that has neither colour nor brand.
    if convention == "asis" and {"colors", "brands"} <= filled:
        filled = {"colors"}
    return Attributes(*(getattr(vocabulary if kind in filled else known, kind) for kind in KINDS))


def build_candidates(caption: str, vocabulary: Vocabulary, *, convention: Convention) -> list[str]:
    """The completions of a caption, colour slowest, then brand, then type; may be empty in `asis` (see `build_choices`)."""
    known = known_attributes(caption, vocabulary, convention=convention)
    if convention == "readme" and not known.missing:
        return [bare_caption(caption, convention=convention)]
    attributes = fill_attributes(known, vocabulary, convention=convention)
    brands = attributes.brands
    if convention == "readme" and not brands:
        brands = ("",)
    prefix = caption_prefix(caption, convention=convention)
    return [prefix + " ".join(word for word in words if word) for words in itertools.product(attributes.colors, brands, attributes.types)]


def build_choices(caption: str, vocabulary: Vocabulary, *, convention: Convention) -> list[str]:
    """What the model chooses from, never empty: the candidates, or those of `readme` where `asis` has none and crashed."""
    candidates = build_candidates(caption, vocabulary, convention=convention)
    if not candidates and convention == "asis":
        candidates = build_candidates(caption, vocabulary, convention="readme")
    if not candidates:
        raise DataError(f"caption {shown(caption)} has no completion; the vocabulary needs at least one colour, brand and type")
    return candidates


def choose(image_feature: np.ndarray, text_features: np.ndarray) -> tuple[int, np.ndarray]:
    """(index of the best candidate, probabilities (N,)) for an image feature (D,) and text features (N, D), any length.

    The probabilities are the softmax of the raw cosines, no logit scale (as published); of equal ones the first wins, and nothing
    is ever rejected. Raises DataError for no candidates, features of different widths, and zero or non-finite features.
    """
    if text_features.ndim != 2 or image_feature.shape != text_features.shape[1:] or not len(text_features):
        raise DataError(f"features of shapes {image_feature.shape} and {text_features.shape}; expected (D,) and (N, D) with N > 0")
    cosines = (_unit_rows(text_features) * _unit_rows(image_feature[None])).sum(axis=1)  # (N,)
    # NOTE no matrix product: BLAS may round equal rows differently, and equal candidates must tie.
    weights = np.exp(cosines - cosines.max())
    probabilities = weights / weights.sum()
    return int(np.argmax(probabilities)), probabilities


def _unit_rows(features: np.ndarray) -> np.ndarray:
    """The rows (N, D) at length one, float64; raises DataError for a row of length zero or with a non-finite number."""
    rows = features.astype(np.float64)
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise DataError(f"feature {bad[0]} has the length {float(lengths[bad[0], 0])}; expected a finite one above 0, check the model")
    return rows / lengths


def output_line(label: Label, chosen: str, *, convention: Convention) -> str:
    """One line of the augmented file, without line end: `name$attribute$caption$chosen`.

    `shipped` has no dots; `readme` and `asis` end caption and choice with one (the published code: specs/a3r.md 2.2, step 6).
    """
    caption = bare_caption(label.caption, convention=convention)
    attribute = bare_caption(label.attribute, convention=convention)
    dot = "" if convention == "shipped" else "."
    return SEPARATOR.join((label.name, attribute, caption + dot, chosen + dot))


def _check_convention(convention: str) -> None:
    """Raise ConfigError unless the convention is one of the three."""
    if convention not in CONVENTIONS:
        raise ConfigError(f"no augmentation convention {convention!r}; it is one of: {', '.join(CONVENTIONS)}")
