"""The first k gallery pictures per query by cosine, within a stated memory, whole or in shards that merge exactly.

Letters in shape comments: Q queries, G gallery pictures, D feature dimensions, C candidates per query. Float32 proposes,
float64 decides: blocks of one normalised product give more candidates than asked for; their cosines are then computed again
pair by pair in float64 and rounded to float32, so that neither block size, nor threads, nor sharding can change the order.
Ties go to the picture that stands earlier in the gallery. A query whose candidates cannot be proved complete, because the
next score lies within float32's error of the k-th, is ranked against the whole gallery. The published code broadcast texts x
pictures x dimensions floats and needed 10 GB per 200 pictures (a3r specification, section 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lib.errors import DataError

SPARE = 16  # candidates beyond k; the gap from the k-th to the last of them is what proves a list complete

# Upper bounds, because more memory makes it slower: on one core 512 x 8,192 scores reach 0.97 of torch.mm's rate, and topk takes
# a quarter of its time over 1,024 columns. Pairs are rescored in parts that stay near the cache, yet are few: every part is a
# handful of parallel loops, and each of them waits for its slowest thread when other programs hold the cores.
BLOCK_CELLS, BLOCK_COLUMNS, PAIR_BYTES = 2**22, 2**13, 2**24
# What torch's faster settings add: factors rounded to 11 bits (TF32; open_clip_train switches it on) or to 8 bits (bfloat16).
PRECISION_LOSS = {"highest": 0.0, "high": 2**-9, "medium": 2**-6}


@dataclass(frozen=True)
class Shard:
    """The ranking of one rectangle of queries x gallery; `indices` count in the whole gallery."""

    queries: range
    gallery: range
    indices: Tensor  # (queries, min(k, gallery)) int64
    scores: Tensor  # the same shape, float32


def top_k(text_features: Tensor, image_features: Tensor, k: int, *, memory_bytes: int) -> tuple[Tensor, Tensor]:
    """(indices (Q, k) int64, cosines (Q, k) float32), best first, for features (Q, D) and (G, D) of any length.

    `memory_bytes` bounds what is held beside the inputs, their normalised copies and the result. Raises DataError for an empty
    gallery, k above the gallery's size, and features that do not fit together or are not finite.
    """
    _check_k(k, len(image_features))
    queries, gallery = range(len(text_features)), range(len(image_features))
    shard = rank_shard(text_features, image_features, k, queries=queries, gallery=gallery, memory_bytes=memory_bytes)
    return shard.indices, shard.scores


def split_range(count: int, parts: int) -> list[range]:
    """`count` items in `parts` runs of nearly equal length, none empty: what each GPU or process ranks."""
    if not 1 <= parts <= count:
        raise DataError(f"{count} items cannot be split into {parts} shards; ask for 1 to {count}")
    edges = [count * part // parts for part in range(parts + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def rank_shard(text_features: Tensor, image_features: Tensor, k: int, *, queries: range, gallery: range, memory_bytes: int) -> Shard:
    """Rank the named queries against the named part of the gallery; a part smaller than k gives all of its pictures."""
    texts, images = text_features[queries.start : queries.stop], image_features[gallery.start : gallery.stop]
    _check_features(texts, images)
    texts, images = normalize(texts.float(), dim=1), normalize(images.float(), dim=1)
    size = min(k, len(images))
    candidates, proposed = _propose(texts, images, min(size + SPARE, len(images)), memory_bytes)
    indices, scores = _decide(texts, images, (candidates, proposed), size, memory_bytes)
    if candidates.shape[1] < len(images):
        margin = _rounding(texts.shape[1])
        open_rows = torch.nonzero(proposed[:, -1] >= scores[:, -1] - margin).flatten()
        _settle(texts, images, open_rows, (indices, scores), margin, memory_bytes)
    return Shard(queries, gallery, indices + gallery.start, scores)


def merge_shards(shards: Sequence[Shard], k: int, *, queries: int, gallery: int) -> tuple[Tensor, Tensor]:
    """The same (indices, scores) as `top_k` on the whole: shards of queries are stacked, shards of the gallery merged.

    Raises DataError unless the shards cover every pair of query and picture exactly once and name only pictures of their own
    part.
    """
    _check_k(k, gallery)
    _check_cover(shards, k, queries, gallery)
    indices, scores = torch.empty((queries, k), dtype=torch.int64), torch.empty((queries, k))
    for rows in sorted({(shard.queries.start, shard.queries.stop) for shard in shards}):
        own = [shard for shard in shards if (shard.queries.start, shard.queries.stop) == rows]
        found = torch.cat([shard.indices.cpu() for shard in own], dim=1), torch.cat([shard.scores.cpu() for shard in own], dim=1)
        indices[slice(*rows)], scores[slice(*rows)] = _ordered(*found, k)
    return indices, scores


def _check_features(texts: Tensor, images: Tensor) -> None:
    if texts.ndim != 2 or images.ndim != 2 or texts.shape[1] != images.shape[1] or not texts.shape[1]:
        raise DataError(
            f"text features {tuple(texts.shape)} and picture features {tuple(images.shape)} do not fit; "
            "both have to be (items, dimensions) of the same model"
        )
    for name, features in (("text", texts), ("picture", images)):
        lowest, highest = features.aminmax(dim=1)
        bad = ~(lowest.isfinite() & highest.isfinite())  # a NaN is the lowest and the highest of its row
        if bad.any():
            raise DataError(f"{name} feature {int(bad.nonzero()[0])} holds a value that is not finite; encode it again, in float32")


def _check_k(k: int, gallery: int) -> None:
    if not gallery:
        raise DataError("the gallery is empty; read its pictures before ranking")
    if not 1 <= k <= gallery:
        raise DataError(f"the first {k} of a gallery of {gallery} pictures cannot be ranked; ask for 1 to {gallery}")


def _check_cover(shards: Sequence[Shard], k: int, queries: int, gallery: int) -> None:
    """Every query row is covered by gallery parts that follow each other from 0 to `gallery` without gap or overlap."""
    parts: dict[tuple[int, int], list[Shard]] = {}
    for shard in shards:
        parts.setdefault((shard.queries.start, shard.queries.stop), []).append(shard)
    _check_chain(sorted(parts), queries, "queries")
    for own in parts.values():
        _check_chain(sorted((shard.gallery.start, shard.gallery.stop) for shard in own), gallery, "pictures")
    for shard in shards:
        expected = (len(shard.queries), min(k, len(shard.gallery)))
        if tuple(shard.indices.shape) != expected or tuple(shard.scores.shape) != expected:
            raise DataError(f"{_name(shard)} has shape {tuple(shard.indices.shape)}, expected {expected}; rank it again with k = {k}")
        if shard.indices.numel() and not (
            shard.gallery.start <= int(shard.indices.min()) and int(shard.indices.max()) < shard.gallery.stop
        ):
            raise DataError(f"{_name(shard)} names a picture outside of its part; rank it again")
        ordered = shard.indices.sort(dim=1).values
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise DataError(f"{_name(shard)} names a picture twice for one query; rank it again")


def _check_chain(parts: list[tuple[int, int]], end: int, what: str) -> None:
    reached = 0
    for start, stop in [*parts, (end, end)]:
        if start < reached or stop > end:
            problem = f"{start} to {stop} are there twice or too many"
        elif start > reached:
            problem = f"{reached} to {start} are missing"
        else:
            reached = stop
            continue
        raise DataError(f"the shards do not cover {end} {what} exactly once: {problem}; rank what is missing, drop what is extra")


def _name(shard: Shard) -> str:
    return f"shard of queries {shard.queries.start}-{shard.queries.stop}, pictures {shard.gallery.start}-{shard.gallery.stop}"


def _propose(texts: Tensor, images: Tensor, count: int, memory_bytes: int) -> tuple[Tensor, Tensor]:
    """The `count` best pictures of each query by float32 cosine, running over blocks: (indices, scores), both (Q, count)."""
    indices = torch.empty((len(texts), count), dtype=torch.int64, device=texts.device)
    scores = torch.empty((len(texts), count), device=texts.device)
    rows, columns = _block(len(texts), len(images), count, memory_bytes)
    for start in range(0, len(texts), rows):
        best: tuple[Tensor, Tensor] | None = None
        for left in range(0, len(images), columns):
            product = texts[start : start + rows] @ images[left : left + columns].T  # (rows, columns)
            values, places = product.topk(min(count, product.shape[1]), dim=1)
            places = places + left
            if best is not None:
                values, chosen = torch.cat([best[0], values], dim=1).topk(min(count, best[0].shape[1] + values.shape[1]), dim=1)
                places = torch.cat([best[1], places], dim=1).gather(1, chosen)
            best = values, places
        scores[start : start + rows], indices[start : start + rows] = best
    return indices, scores


def _block(queries: int, gallery: int, count: int, memory_bytes: int) -> tuple[int, int]:
    """Rows and columns of a block of the product; at least `count` columns are needed to choose from.

    A cell costs about 8 bytes: the score, and the copy that topk sorts.
    """
    cells = max(1, min(memory_bytes // 8, BLOCK_CELLS))
    columns = min(gallery, max(count, min(cells, BLOCK_COLUMNS)))
    return max(1, min(queries, cells // columns)), columns


def _decide(texts: Tensor, images: Tensor, proposal: tuple[Tensor, Tensor], size: int, memory_bytes: int) -> tuple[Tensor, Tensor]:
    """Order the candidates (Q, C), whose float32 scores descend, by exact cosine, then position, and keep `size` of them."""
    candidates, proposed = proposal
    # A candidate further below than the errors of two scores cannot pass the `size` candidates above it.
    rows, places = (proposed >= proposed[:, size - 1 : size] - 2 * _rounding(texts.shape[1])).nonzero(as_tuple=True)
    scores = torch.full(candidates.shape, -torch.inf, device=texts.device)
    scores[rows, places] = _exact(texts, images, (rows, candidates[rows, places]), memory_bytes)
    return _ordered(candidates, scores, size)


def _exact(texts: Tensor, images: Tensor, pairs: tuple[Tensor, Tensor], memory_bytes: int) -> Tensor:
    """Cosines (P,) of P pairs (query, picture) of unit vectors, each summed by itself in float64 and rounded to float32."""
    rows, columns = pairs
    scores = torch.empty(len(rows), device=texts.device)
    step = max(1, min(memory_bytes, PAIR_BYTES) // (32 * texts.shape[1]))  # a pair: two rows of float32, three of float64
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        scores[part] = (texts[rows[part]].double() * images[columns[part]].double()).sum(dim=1)
    return scores


def _ordered(indices: Tensor, scores: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first `size` columns of (indices, scores), both (Q, C), by descending score and, where equal, ascending index."""
    indices, by_place = indices.sort(dim=1)
    scores, by_score = scores.gather(1, by_place).sort(dim=1, descending=True, stable=True)
    return indices.gather(1, by_score)[:, :size].contiguous(), scores[:, :size].contiguous()


def _rounding(dimensions: int) -> float:
    """Upper bound of the error of a product of unit vectors in the float32 precision that torch is set to."""
    # A dot product of D terms errs by less than D eps sum|a_i b_i| <= D eps. (Higham 2002, section 3.1)
    return dimensions * torch.finfo(torch.float32).eps + PRECISION_LOSS[torch.get_float32_matmul_precision()]


def _settle(texts: Tensor, images: Tensor, rows: Tensor, found: tuple[Tensor, Tensor], margin: float, memory_bytes: int) -> None:
    """Rank the named queries again, in place, over every picture whose float32 cosine could reach their k-th score."""
    indices, scores = found
    step = max(1, memory_bytes // (8 * len(images)))
    for block in rows.split(step):
        product = texts[block] @ images.T  # (step, G)
        for row, line in zip(block.tolist(), product, strict=True):
            near = torch.nonzero(line >= scores[row, -1] - margin).flatten()
            exact = _exact(texts, images, (torch.full_like(near, row), near), memory_bytes)
            best = _ordered(near[None], exact[None], indices.shape[1])
            indices[row], scores[row] = best[0][0], best[1][0]
