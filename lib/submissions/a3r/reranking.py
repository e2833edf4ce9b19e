"""Adaption re-ranking of one query's retrieved pictures: the adapted query and the two scores of the authors' notebook.

Letters in shape comments: N candidates in the order they were retrieved, D feature dimensions, M candidates the query is
adapted to. Names of the notebook's formulas (a3r specification, section 6.2): F features, H features of the mirrored
pictures, S similarity of pictures, Q similarity of pictures to the adapted query, N(i) the k nearest of picture i, itself
included, N(q) those of the query. The kit deviates from the notebook in three places under `quirk="corrected"`: the adapted
query points towards its pictures whatever the PCA's sign, the embedded score uses each picture's own neighbours, and the
factors of the quantified score stay below 2k. Equal similarities crashed the original (0/0); here they count as equal weights
under both settings.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.errors import ConfigError, DataError

Array = NDArray[np.float64]
Score = Literal["quantified", "embedded"]
Quirk = Literal["as_published", "corrected"]


@dataclass(frozen=True)
class Neighbours:
    """Who is near whom, worked out once: the original listed the neighbours again for every pair."""

    lists: NDArray[np.int64]  # (N, min(k, N)) columns of the k largest S per row
    near: NDArray[np.bool_]  # (N, N) near[i, j]: j in N(i)
    near_query: NDArray[np.bool_]  # (N,) p in N(q)
    k: int


@dataclass(frozen=True)
class Recipe:
    """How to re-rank: the first m candidates make the adapted query, k neighbours count, which score, with or without the defects."""

    m: int
    k: int
    score: Score
    quirk: Quirk

    def __post_init__(self) -> None:
        _check_choice("score", self.score, get_args(Score))
        _check_choice("quirk", self.quirk, get_args(Quirk))
        if self.m < 1 or self.k < 1:
            raise ConfigError(f"re-ranking with m = {self.m} and k = {self.k}; both have to be 1 or more")


def rerank(text_feature: ArrayLike, features: ArrayLike, flipped: ArrayLike, recipe: Recipe) -> tuple[NDArray[np.int64], Array]:
    """(order (N,) of the candidates, best first; scores (N,) in retrieved order) of one query.

    `text_feature` (D,), `features` and `flipped` (N, D) of any length, in retrieved order: candidate 0 is the top-1 picture
    that the quantified score leans on. Fewer candidates than m or k are taken as they are. Equal scores keep the retrieved
    order.
    """
    m, k, quirk = recipe.m, recipe.k, recipe.quirk
    text, pictures, mirrored = (np.asarray(value, dtype=np.float64) for value in (text_feature, features, flipped))
    text = text.reshape(-1)
    if pictures.ndim != 2 or pictures.shape != mirrored.shape or pictures.shape[1:] != text.shape or not len(pictures):
        raise DataError(
            f"re-ranking got a text feature {text.shape}, features {pictures.shape} and mirrored features {mirrored.shape}; "
            "expected (dimensions,) and twice (candidates, dimensions) with one candidate or more"
        )
    weights = min_max(cosine(text[None], pictures[:m])[0])
    query = adapted_query(pictures[:m], weights, quirk=quirk)
    similarity = np.maximum(cosine(pictures, pictures), cosine(pictures, mirrored))
    query_similarity = np.maximum(cosine(query[None], pictures), cosine(query[None], mirrored))[0]
    neighbours = find_neighbours(similarity, query_similarity, k)
    if recipe.score == "quantified":
        scores = quantified_score(query_similarity, neighbours, quirk=quirk)
    else:
        scores = embedded_score(query, pictures, query_similarity, neighbours, quirk=quirk)
    return order_by(scores), scores


def cosine(left: Array, right: Array) -> Array:
    """Cosines (A, B) of the rows of (A, D) and (B, D); 0 where a row is all zeros."""
    return _unit(left) @ _unit(right).T


def min_max(similarity: Array) -> Array:
    """Similarities scaled to 0 (lowest) ... 1 (highest); all 1 where they are equal and the scale would be 0/0."""
    span = similarity.max() - similarity.min()
    if span == 0:
        return np.ones_like(similarity)
    return (similarity - similarity.min()) / span


def adapted_query(features: Array, weights: Array, *, quirk: Quirk) -> Array:
    """The adapted query (D,): first principal component score of the weighted features (M, D), rows of the PCA being dimensions.

    "corrected" takes the sign with a non-negative mean cosine to the pictures. "as_published" is the notebook's minus sign on
    top of scikit-learn's own rule since 1.5 (largest loading positive), which points away from them; it was tuned to version
    1.0.2.
    """
    _check_choice("quirk", quirk, get_args(Quirk))
    matrix = (weights[:, None] * features).T  # (D, M)
    matrix = matrix - matrix.mean(axis=0)
    left, size, loadings = np.linalg.svd(matrix, full_matrices=False)
    component = left[:, 0] * size[0]  # (D,)
    if quirk == "as_published":
        return -component * np.sign(loadings[0, np.abs(loadings[0]).argmax()])
    return component if cosine(component[None], features).mean() >= 0 else -component


def find_neighbours(similarity: Array, query_similarity: Array, k: int) -> Neighbours:
    """The k nearest of every picture by S (N, N) and of the query by Q (N,); the earlier candidate wins a tie."""
    lists = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    near = np.zeros(similarity.shape, dtype=bool)
    np.put_along_axis(near, lists, True, axis=1)
    near_query = np.zeros(len(query_similarity), dtype=bool)
    near_query[np.argsort(-query_similarity, kind="stable")[:k]] = True
    return Neighbours(lists, near, near_query, k)


def quantified_score(query_similarity: Array, neighbours: Neighbours, *, quirk: Quirk) -> Array:
    """Q * c/(2k-c) * r/(2k-r) per picture (N,): c common neighbours with the query, r reciprocal ones.

    "as_published" divides by zero where c or r reaches 2k (inf) and turns negative above it; "corrected" stops both at 2k -
    1. Both keep the notebook's confusion of the query with picture 0, the top-1: "reciprocal" is asked of that picture.
    """
    _check_choice("quirk", quirk, get_args(Quirk))
    common = (neighbours.near & neighbours.near_query).sum(axis=1) + 2
    reciprocal = _reciprocal(neighbours, own=2)
    double = 2 * neighbours.k
    if quirk == "corrected":
        common, reciprocal = np.minimum(common, double - 1), np.minimum(reciprocal, double - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return query_similarity * (common / (double - common)) * (reciprocal / (double - reciprocal))


def embedded_score(query: Array, features: Array, query_similarity: Array, neighbours: Neighbours, *, quirk: Quirk) -> Array:
    """Q - (1 - cos(q, f)) per picture (N,), f the mean of its neighbours' features weighted by Q, zero without reciprocal ones.

    "as_published" weighs the last picture's neighbours for every picture (a loop variable left over); "corrected" each one's own.
    """
    _check_choice("quirk", quirk, get_args(Quirk))
    weights = query_similarity[neighbours.lists]  # (N, k)
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    members = neighbours.lists if quirk == "corrected" else np.broadcast_to(neighbours.lists[-1], neighbours.lists.shape)
    means = np.einsum("nk,nkd->nd", weights, features[members])
    means[_reciprocal(neighbours, own=1) == 0] = 0
    return query_similarity - (1 - cosine(query[None], means)[0])


def order_by(scores: Array) -> NDArray[np.int64]:
    """Positions by descending score; equal ones keep their order, and a score that is not a number comes last."""
    return np.argsort(-scores, kind="stable")


def _reciprocal(neighbours: Neighbours, own: int) -> NDArray[np.int64]:
    """r of every picture i, (N,), a sum of three counts.

    #{p in N(i): 0 in N(p), p in N(q)} + #{p in N(q): i in N(p), p in N(i)} + own * [0 in N(i), i in N(q)].
    """
    near, near_query = neighbours.near.astype(np.int64), neighbours.near_query
    from_picture = near @ (neighbours.near[:, 0] & near_query)
    from_query = (near * near.T) @ near_query
    return from_picture + from_query + own * (neighbours.near[:, 0] & near_query)


def _unit(rows: Array) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length == 0, 1, length)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"re-ranking has no {name} {value!r}; it has: {', '.join(known)}")
