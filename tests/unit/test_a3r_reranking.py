"""Adaption re-ranking: the adapted query's direction, the neighbours, and both scores against formulas written out slowly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.a3r import reranking


def scene(count: int, dimensions: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A text feature, picture features around one direction as CLIP's are, and those of the mirrored pictures."""
    rng = np.random.default_rng(seed)
    centre = 3 * rng.standard_normal(dimensions)
    pictures = centre + rng.standard_normal((count, dimensions))
    order = np.argsort(-reranking.cosine(centre[None], pictures)[0])
    return centre + rng.standard_normal(dimensions), pictures[order], pictures[order] + 0.1 * rng.standard_normal(pictures.shape)


def slow_counts(near: np.ndarray, near_query: np.ndarray, i: int, own: int) -> tuple[int, int]:
    """(c, r) of picture i by the specification's sets."""
    of = [set(np.flatnonzero(row)) for row in near]
    query = set(np.flatnonzero(near_query))
    common = len(query & of[i]) + 2
    first = sum(0 in of[p] and p in query for p in of[i])
    second = sum(i in of[p] and p in of[i] for p in query)
    return common, first + second + own * (0 in of[i] and i in query)


@settings(deadline=None)
@given(st.integers(1, 14), st.integers(1, 12), st.integers(0, 2**16))
def test_both_scores_are_the_formulas_of_the_specification(count, k, seed):
    rng = np.random.default_rng(seed)
    similarity, by_query, features = rng.random((count, count)), rng.random(count), rng.standard_normal((count, 5))
    query = rng.standard_normal(5)
    neighbours = reranking.find_neighbours(similarity, by_query, k)
    quantified = reranking.quantified_score(by_query, neighbours, quirk="corrected")
    embedded = {
        quirk: reranking.embedded_score(query, features, by_query, neighbours, quirk=quirk) for quirk in ("as_published", "corrected")
    }
    for i in range(count):
        common, reciprocal = (min(value, 2 * k - 1) for value in slow_counts(neighbours.near, neighbours.near_query, i, own=2))
        assert quantified[i] == pytest.approx(by_query[i] * common / (2 * k - common) * reciprocal / (2 * k - reciprocal))
        weights = by_query[neighbours.lists[i]] / by_query[neighbours.lists[i]].sum()
        for quirk, members in (("corrected", neighbours.lists[i]), ("as_published", neighbours.lists[-1])):
            mean = weights @ features[members]
            if slow_counts(neighbours.near, neighbours.near_query, i, own=1)[1] == 0:
                mean = np.zeros(5)
            assert embedded[quirk][i] == pytest.approx(by_query[i] - 1 + reranking.cosine(query[None], mean[None])[0, 0])


def test_the_corrected_query_points_towards_its_pictures_where_the_published_one_points_away():
    for seed in range(10):
        _, pictures, _ = scene(5, seed=seed)
        weights = np.linspace(1, 0, 5)
        corrected = reranking.adapted_query(pictures, weights, quirk="corrected")
        published = reranking.adapted_query(pictures, weights, quirk="as_published")
        assert reranking.cosine(corrected[None], pictures).mean() > 0.5
        assert reranking.cosine(published[None], pictures).mean() < -0.5


def test_the_adapted_query_is_scikit_learns_principal_component_with_a_minus_sign():
    decomposition = pytest.importorskip("sklearn.decomposition")
    _, pictures, _ = scene(6, seed=3)
    weights = reranking.min_max(np.array([0.5, 0.4, 0.45, 0.3, 0.2, 0.1]))
    score = decomposition.PCA(n_components=1, svd_solver="full").fit_transform((weights[:, None] * pictures).T)[:, 0]
    assert reranking.adapted_query(pictures, weights, quirk="as_published") == pytest.approx(-score)


def test_equal_similarities_count_as_equal_weights():
    assert reranking.min_max(np.array([0.3, 0.3, 0.3])).tolist() == [1.0, 1.0, 1.0]
    assert reranking.min_max(np.array([0.1, 0.3, 0.2])) == pytest.approx([0.0, 1.0, 0.5])


def test_the_earlier_candidate_wins_a_tie_among_the_neighbours():
    neighbours = reranking.find_neighbours(np.ones((3, 3)), np.zeros(3), 2)
    assert neighbours.lists.tolist() == [[0, 1]] * 3
    assert neighbours.near_query.tolist() == [True, True, False]


@pytest.mark.parametrize("count, published", [(3, [np.inf] * 3), (4, [-15.0] * 4)])
def test_the_published_quantified_score_breaks_from_2k_on_and_the_corrected_one_stops_below(count, published):
    # Everyone is everyone's neighbour: c = count + 2 and r = 2 * count + 2, which for k = 4 reaches 8 and then 10.
    neighbours = reranking.find_neighbours(np.ones((count, count)), np.ones(count), 4)
    common = count + 2
    assert reranking.quantified_score(np.ones(count), neighbours, quirk="as_published").tolist() == published
    corrected = reranking.quantified_score(np.ones(count), neighbours, quirk="corrected")
    assert corrected == pytest.approx(common / (8 - common) * 7)


def test_an_odd_picture_among_the_candidates_falls_to_the_end_only_with_the_corrected_sign():
    text, pictures, mirrored = scene(12, seed=2)
    pictures[4], mirrored[4] = -pictures[4], -mirrored[4]
    order, scores = reranking.rerank(text, pictures, mirrored, reranking.Recipe(m=4, k=5, score="embedded", quirk="corrected"))
    assert order[-1] == 4
    assert scores[order].tolist() == sorted(scores.tolist(), reverse=True)
    assert reranking.rerank(text, pictures, mirrored, reranking.Recipe(m=4, k=5, score="embedded", quirk="as_published"))[0][0] == 4


@pytest.mark.parametrize("score", ["quantified", "embedded"])
@pytest.mark.parametrize("quirk", ["as_published", "corrected"])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_fewer_candidates_than_m_and_k_are_all_ranked(count, score, quirk):
    order, scores = reranking.rerank(*scene(count), reranking.Recipe(m=10, k=10, score=score, quirk=quirk))
    assert sorted(order.tolist()) == list(range(count)) and not np.isnan(scores).any()
    assert quirk == "as_published" or np.isfinite(scores).all()


def test_the_length_of_features_does_not_change_the_neighbours_of_the_query():
    text, pictures, mirrored = scene(8, seed=4)
    plain = reranking.rerank(text, pictures, mirrored, reranking.Recipe(m=4, k=3, score="embedded", quirk="corrected"))
    longer = reranking.rerank(text * 7, pictures * 7, mirrored * 7, reranking.Recipe(m=4, k=3, score="embedded", quirk="corrected"))
    assert plain[0].tolist() == longer[0].tolist() and plain[1] == pytest.approx(longer[1])


def test_pictures_without_features_are_ranked_in_retrieved_order():
    order, scores = reranking.rerank(
        np.ones(3), np.zeros((4, 3)), np.zeros((4, 3)), reranking.Recipe(m=2, k=2, score="embedded", quirk="corrected")
    )
    assert order.tolist() == [0, 1, 2, 3] and scores.tolist() == [-1.0] * 4


def test_messages_of_the_reranking():
    text, pictures, mirrored = scene(3)
    calls = {
        "re-ranking has no score 'sum'; it has: quantified, embedded": {"score": "sum"},
        "re-ranking has no quirk 'off'; it has: as_published, corrected": {"quirk": "off"},
        "re-ranking with m = 0 and k = 2; both have to be 1 or more": {"m": 0},
    }
    for message, change in calls.items():
        with pytest.raises(ConfigError) as error:
            reranking.rerank(
                text, pictures, mirrored, reranking.Recipe(**({"m": 2, "k": 2, "score": "embedded", "quirk": "corrected"} | change))
            )
        assert str(error.value) == message
    with pytest.raises(DataError) as error:
        reranking.rerank(text, pictures[:0], mirrored[:0], reranking.Recipe(m=2, k=2, score="embedded", quirk="corrected"))
    assert str(error.value) == (
        "re-ranking got a text feature (12,), features (0, 12) and mirrored features (0, 12); "
        "expected (dimensions,) and twice (candidates, dimensions) with one candidate or more"
    )
