"""Retrieval scores: AP and mAP at k, ranks and recalls of a paired validation set with their ceilings, the contrastive loss.

Letters in shape comments: N pairs, Q queries, G gallery items, D feature dimensions, B rows of one block. Ties are broken by
position everywhere: of two items with equal score the earlier one ranks first, as a stable sort would do. Equal feature
vectors are scored once, so that they tie exactly wherever they stand. Nothing of size N x N is ever held: `memory_bytes`
bounds one block of scores. Features are taken as given: pass them L2-normalised, as the model's encoders return them.
Definitions: a3r specification, sections 4.4 and 7.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lib.errors import DataError

Denominator = Literal["relevant", "min(relevant, k)"]
Features = NDArray[np.floating]
Direction = tuple[str, Features, Features]  # name, queries, gallery

RECALLS = (1, 5, 10)  # the ranks open_clip's validation reports
BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class MeanAveragePrecision:
    """mAP over the queries that have a relevant item; `per_query` keeps None in the place of the others."""

    score: float | None  # None when no query could be scored
    per_query: tuple[float | None, ...]
    scored: int
    excluded: int  # queries without any relevant item


def average_precision(
    retrieved: Sequence[str], relevant: Collection[str], k: int, *, denominator: Denominator = "relevant"
) -> float | None:
    """AP@k of one query: the sum of precision(i) over the hits i <= k, divided by the number of relevant items R.

    That equals the published sum of p(i) (r(i) - r(i-1)). With R > k the official value cannot exceed k/R; the denominator
    "min(relevant, k)" lets a perfect list reach 1. None when nothing is relevant. Raises DataError for an item retrieved twice.
    """
    wanted, first = set(relevant), list(retrieved[:k])
    if k < 1:
        raise DataError(f"average precision at k = {k}; k has to be 1 or more")
    if denominator not in ("relevant", "min(relevant, k)"):
        raise DataError(f"average precision has no denominator {denominator!r}; it has: relevant, min(relevant, k)")
    repeated = [name for name, count in Counter(first).items() if count > 1]
    if repeated:
        raise DataError(f"{repeated[0]!r} is retrieved twice among the first {k}; every item may appear once, rank the query again")
    if not wanted:
        return None
    hits, total = 0, 0.0
    for position, name in enumerate(first, start=1):
        if name in wanted:
            hits += 1
            total += hits / position
    return total / (len(wanted) if denominator == "relevant" else min(len(wanted), k))


def mean_average_precision(
    retrieved: Sequence[Sequence[str]], relevant: Sequence[Collection[str]], k: int, *, denominator: Denominator = "relevant"
) -> MeanAveragePrecision:
    """mAP@k, one ranked list and one set of relevant items per query; queries with nothing relevant are excluded and counted."""
    if len(retrieved) != len(relevant):
        raise DataError(f"{len(retrieved)} ranked lists for {len(relevant)} queries; one list per query is needed, in the same order")
    values = tuple(average_precision(*pair, k, denominator=denominator) for pair in zip(retrieved, relevant, strict=True))
    scored = [value for value in values if value is not None]
    score = sum(scored) / len(scored) if scored else None
    return MeanAveragePrecision(score, values, len(scored), len(values) - len(scored))


def mean_by_label(per_query: Sequence[float | None], labels: Sequence[str]) -> dict[str, tuple[float | None, int]]:
    """label -> (mean of its scored queries or None, how many): mAP per class or per kind of attribute, labels sorted."""
    if len(per_query) != len(labels):
        raise DataError(f"{len(labels)} labels for {len(per_query)} queries; one label per query is needed, in the same order")
    means = {}
    for label in sorted(set(labels)):
        own = [value for value, its in zip(per_query, labels, strict=True) if its == label and value is not None]
        means[label] = (sum(own) / len(own) if own else None, len(own))
    return means


def same_label(queries: Sequence[str], gallery: Mapping[str, str]) -> list[frozenset[str]]:
    """Relevant gallery names per query: those whose label (attribute phrase or caption) equals the query's, letter by letter."""
    names: dict[str, set[str]] = {}
    for name, label in gallery.items():
        names.setdefault(label, set()).add(name)
    found = {label: frozenset(own) for label, own in names.items()}
    return [found.get(label, frozenset()) for label in queries]


def own_ranks(queries: Features, gallery: Features, *, memory_bytes: int = BLOCK_BYTES) -> NDArray[np.int64]:
    """Rank from 0 of gallery item i among all items for query i, (N,)."""
    return _ranks(queries, gallery, lambda scores, rows: rows, memory_bytes)


def group_ranks(queries: Features, gallery: Features, groups: Sequence[str], *, memory_bytes: int = BLOCK_BYTES) -> NDArray[np.int64]:
    """Rank from 0 of the best placed gallery item of query i's own group (for example: with the same caption), (N,)."""
    if len(groups) != len(queries):
        raise DataError(f"{len(groups)} captions for {len(queries)} pairs; one caption per pair is needed, in the same order")
    number = np.unique(np.array(list(groups)), return_inverse=True)[1]

    def best_member(scores: NDArray, rows: NDArray) -> NDArray:
        own = number[rows][:, None] == number[None, :]  # (B, N)
        return np.where(own, scores, -np.inf).argmax(axis=1)

    return _ranks(queries, gallery, best_member, memory_bytes)


def retrieval_scores(image_features: Features, text_features: Features, *, memory_bytes: int = BLOCK_BYTES) -> dict[str, float]:
    """Mean rank, median rank and R@1/5/10 in both directions, under open_clip's names (`image_to_text_mean_rank`, ...).

    Ranks count from 1: mean_rank = mean + 1, median_rank = floor(median) + 1; R@k is the share of ranks (from 0) below k.
    """
    scores = {}
    for name, queries, gallery in _directions(image_features, text_features):
        ranks = own_ranks(queries, gallery, memory_bytes=memory_bytes)
        scores[f"{name}_mean_rank"] = float(ranks.mean() + 1)
        scores[f"{name}_median_rank"] = float(np.floor(np.median(ranks)) + 1)
        scores |= {f"{name}_R@{k}": float(np.mean(ranks < k)) for k in RECALLS}
    return scores


def group_recall(
    image_features: Features, text_features: Features, captions: Sequence[str], *, memory_bytes: int = BLOCK_BYTES
) -> dict[str, float]:
    """`image_to_text_group_R@1`, ...: share of queries with an item of their own caption among the first k.

    Captions repeat, so R@k of the own pair alone punishes a right answer; this recall does not.
    """
    scores = {}
    for name, queries, gallery in _directions(image_features, text_features):
        ranks = group_ranks(queries, gallery, captions, memory_bytes=memory_bytes)
        scores |= {f"{name}_group_R@{k}": float(np.mean(ranks < k)) for k in RECALLS}
    return scores


def recall_ceilings(captions: Sequence[str]) -> dict[str, float]:
    """`R@1`, `R@5`, `R@10` of the own pair that a perfect ranking by caption reaches when ties fall at random.

    In a group of g equal captions the own pair is among the first k with probability min(k, g)/g, so the group adds min(k, g).
    """
    if not len(captions):
        raise DataError("no captions to compute recall ceilings from; pass the validation set's captions")
    sizes = Counter(captions).values()
    return {f"R@{k}": sum(min(k, size) for size in sizes) / len(captions) for k in RECALLS}


def contrastive_loss(image_features: Features, text_features: Features, logit_scale: float) -> float:
    """Mean of the two cross-entropies (image to text, text to image) of one batch of pairs; the target is the own index."""
    directions = _directions(image_features, text_features)
    return float(np.mean([_cross_entropy(queries, gallery, logit_scale) for _, queries, gallery in directions]))


def validation_loss(image_features: Features, text_features: Features, logit_scale: float, *, batch_size: int) -> float:
    """sum(batch loss x batch) / samples over batches in file order, the short last one included.

    It depends on batch size and order: each batch is its own classification problem (a3r specification, section 4.4).
    """
    if batch_size < 1:
        raise DataError(f"validation loss with batches of {batch_size}; a batch has 1 pair or more")
    _check_pairs(image_features, text_features)
    total = 0.0
    for start in range(0, len(image_features), batch_size):
        images, texts = image_features[start : start + batch_size], text_features[start : start + batch_size]
        total += contrastive_loss(images, texts, logit_scale) * len(images)
    return total / len(image_features)


def _directions(image_features: Features, text_features: Features) -> tuple[Direction, Direction]:
    _check_pairs(image_features, text_features)
    return ("image_to_text", image_features, text_features), ("text_to_image", text_features, image_features)


def _check_pairs(queries: Features, gallery: Features) -> None:
    """Two (N, D) arrays of finite numbers, N > 0; a value that is not finite would compare as "no rank" and flatter the score."""
    if queries.ndim != 2 or queries.shape != gallery.shape or not len(queries):
        raise DataError(f"paired features have shapes {queries.shape} and {gallery.shape}; both have to be (pairs, dimensions), not empty")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise DataError("the features hold values that are not finite; did the training diverge?")


def _ranks(queries: Features, gallery: Features, choose: Callable[[NDArray, NDArray], NDArray], memory_bytes: int) -> NDArray[np.int64]:
    """Rank from 0 of the column that `choose(scores (B, N), rows (B,))` names for each row."""
    _check_pairs(queries, gallery)
    distinct, position = np.unique(gallery, axis=0, return_inverse=True)
    ranks = np.empty(len(queries), dtype=np.int64)
    columns = np.arange(len(gallery))
    for rows in _blocks(len(queries), len(gallery), memory_bytes):
        scores = (queries[rows] @ distinct.T)[:, position.reshape(-1)]  # (B, N)
        target = choose(scores, rows)
        own = scores[np.arange(len(rows)), target][:, None]
        ahead = (scores > own).sum(axis=1)
        ranks[rows] = ahead + ((scores == own) & (columns < target[:, None])).sum(axis=1)
    return ranks


def _blocks(rows: int, columns: int, memory_bytes: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers in blocks; about 24 bytes per cell: two copies of the scores, their masks, and the doubles of a loss."""
    step = max(1, memory_bytes // (24 * columns))
    for start in range(0, rows, step):
        yield np.arange(start, min(start + step, rows))


def _cross_entropy(queries: Features, gallery: Features, scale: float) -> float:
    total = 0.0
    for rows in _blocks(len(queries), len(gallery), BLOCK_BYTES):
        logits = scale * (queries[rows] @ gallery.T).astype(np.float64)  # (B, N)
        largest = logits.max(axis=1)
        log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        total += float((log_sum - logits[np.arange(len(rows)), rows]).sum())
    return total / len(queries)
