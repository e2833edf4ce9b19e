"""Ranking the gallery for encoded queries: cosine similarity in blocks, the class of the query if asked for, re-ranking if asked for.

N gallery pictures, Q queries, D width of the joint space.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lib.config import StageSettings
from lib.submissions.a3r import ranking, reranking
from lib.submissions.a3r.labels import Kind
from lib.submissions.a3r.reranking import Recipe
from lib.submissions.a3r.vocabulary import image_kind

DIGITS = 6  # of the scores that are kept


@dataclass(frozen=True)
class Gallery:
    """Names and features (N, D) of the pictures; the features of the mirrored pictures only where re-ranking needs them."""

    names: list[str]
    images: Tensor
    mirrored: Tensor | None


@dataclass(frozen=True)
class Ranked:
    """The first names for one query, best first, with their scores; `before` are those before re-ranking, empty without it."""

    image_names: tuple[str, ...]
    scores: tuple[float, ...]
    before: tuple[str, ...]


def search(texts: Tensor, kinds: Sequence[Kind], gallery: Gallery, cfg: StageSettings) -> list[Ranked]:
    """One Ranked per query (Q, D), in order. Raises DataError for an empty gallery or one smaller than `top_k`."""
    if cfg.infer.gallery == "all":
        return _search_among(texts, list(range(len(gallery.names))), gallery, cfg)
    found: dict[int, Ranked] = {}
    for kind in sorted(set(kinds)):
        rows = [row for row, own in enumerate(kinds) if own == kind]
        places = [place for place, name in enumerate(gallery.names) if image_kind(name) == kind]
        found |= dict(zip(rows, _search_among(texts[rows], places, gallery, cfg), strict=True))
    return [found[row] for row in range(len(kinds))]


def _search_among(texts: Tensor, places: list[int], gallery: Gallery, cfg: StageSettings) -> list[Ranked]:
    """The same among the pictures at these places of the gallery."""
    first = cfg.infer.top_k
    depth = first if gallery.mirrored is None else min(max(first, cfg.infer.candidates), len(places))
    indices, scores = ranking.top_k(texts, gallery.images[places], depth, memory_bytes=cfg.machine.memory_mib * 2**20)
    found = []
    for text, row, values in zip(texts, indices.tolist(), scores.tolist(), strict=True):
        ordered, before = [places[place] for place in row], ()
        if gallery.mirrored is not None:
            before = tuple(gallery.names[place] for place in ordered[:first])
            ordered, values = _rerank(text, ordered, gallery, cfg)
        names = tuple(gallery.names[place] for place in ordered[:first])
        found.append(Ranked(names, tuple(round(value, DIGITS) for value in values[:first]), before))
    return found


def _rerank(text: Tensor, ordered: list[int], gallery: Gallery, cfg: StageSettings) -> tuple[list[int], list[float]]:
    """The candidates in their new order, with the scores of re-ranking."""
    settings = cfg.infer
    recipe = Recipe(settings.adapt_from, settings.neighbours, settings.rerank, settings.quirks.reranking)
    features = gallery.images[ordered].numpy(), gallery.mirrored[ordered].numpy()
    order, scores = reranking.rerank(text.numpy(), *features, recipe)
    return [ordered[place] for place in order], [float(scores[place]) for place in order]
