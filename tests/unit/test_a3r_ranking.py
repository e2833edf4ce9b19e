"""Top-k ranking: the order of a stable sort, whatever the memory, the ties and the shards."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import DataError
from lib.submissions.a3r import ranking

MEMORY = 2**20


def features(count: int, dimensions: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def small_integers(count: int, dimensions: int, seed: int) -> torch.Tensor:
    """Features among which many cosines are equal."""
    return torch.randint(-1, 2, (count, dimensions), generator=torch.Generator().manual_seed(seed)).float()


def stable_order(texts: torch.Tensor, images: torch.Tensor, k: int) -> torch.Tensor:
    """First k of a stable descending sort of the float64 cosines of the float32 unit vectors, rounded to float32."""
    texts, images = (torch.nn.functional.normalize(rows, dim=1).double() for rows in (texts, images))
    scores = (texts[:, None] * images[None]).sum(-1).float()
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(1, 90), st.data())
def test_any_memory_gives_the_order_of_a_stable_sort_even_with_many_ties(queries, gallery, data):
    k, memory_bytes = data.draw(st.integers(1, gallery)), data.draw(st.sampled_from([1, 600, 3000, MEMORY]))
    texts, images = (small_integers(count, 3, data.draw(st.integers(0, 2**16))) for count in (queries, gallery))
    indices, scores = ranking.top_k(texts, images, k, memory_bytes=memory_bytes)
    assert indices.tolist() == stable_order(texts, images, k).tolist()
    assert scores.shape == (queries, k) and bool((scores[:, 1:] <= scores[:, :-1]).all())


def test_distinct_features_are_ranked_as_by_brute_force_in_small_blocks():
    texts, images = features(50, 64, 0), features(700, 64, 1)
    expected = stable_order(texts, images, 10)
    for memory_bytes in (2**10, 2**13, 2**16, 2**24):
        assert ranking.top_k(texts, images, 10, memory_bytes=memory_bytes)[0].equal(expected)


def test_equal_pictures_keep_their_order_in_the_gallery_also_when_more_tie_than_candidates_are_kept():
    picture = features(1, 33, 2)
    images = torch.cat([features(5, 33, 3), picture.expand(300, -1), features(5, 33, 4)])
    indices, _ = ranking.top_k(picture * 3, images, 40, memory_bytes=4096)
    assert indices[0].tolist() == list(range(5, 45))


def test_a_gallery_of_almost_equal_pictures_is_still_ranked_exactly():
    images = features(1, 48, 5) + 1e-6 * features(400, 48, 6)
    texts = features(4, 48, 7)
    assert ranking.top_k(texts, images, 10, memory_bytes=2**14)[0].equal(stable_order(texts, images, 10))


def test_a_zero_feature_has_cosine_zero_with_everything():
    indices, scores = ranking.top_k(torch.zeros(1, 4), features(6, 4, 8), 3, memory_bytes=MEMORY)
    assert indices.tolist() == [[0, 1, 2]] and scores.tolist() == [[0.0, 0.0, 0.0]]


def test_the_length_of_features_and_half_precision_do_not_matter():
    texts, images = features(8, 32, 9), features(60, 32, 10)
    plain = ranking.top_k(texts, images, 10, memory_bytes=MEMORY)
    longer = ranking.top_k(texts * 16, images * 0.25, 10, memory_bytes=MEMORY)
    assert plain[0].equal(longer[0]) and plain[1].equal(longer[1])
    half = ranking.top_k(texts.half(), images.half(), 10, memory_bytes=MEMORY)
    assert half[1].dtype == torch.float32 and (half[1] - plain[1]).abs().max() < 2e-3


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_product_in_reduced_precision_does_not_change_the_order(precision, monkeypatch):
    """This machine's CPU may ignore the setting, so the product's factors are rounded here as the setting allows."""
    propose, bits = ranking._propose, {"high": 11, "medium": 8}[precision]

    def rounded(rows: torch.Tensor) -> torch.Tensor:
        fraction, exponent = torch.frexp(rows)
        return torch.ldexp((fraction * 2**bits).round() / 2**bits, exponent)

    monkeypatch.setattr(ranking, "_propose", lambda texts, images, *rest: propose(rounded(texts), rounded(images), *rest))
    texts, images = features(20, 64, 11), features(1, 64, 12) + 0.003 * features(500, 64, 13)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        indices, _ = ranking.top_k(texts, images, 10, memory_bytes=MEMORY)
    finally:
        torch.set_float32_matmul_precision(before)
    assert indices.equal(stable_order(texts, images, 10))


def shards_of(texts: torch.Tensor, images: torch.Tensor, k: int, by_query: int, by_picture: int) -> list[ranking.Shard]:
    return [
        ranking.rank_shard(texts, images, k, queries=queries, gallery=gallery, memory_bytes=2**14)
        for queries in ranking.split_range(len(texts), by_query)
        for gallery in ranking.split_range(len(images), by_picture)
    ]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 60), st.data())
def test_shards_of_queries_and_gallery_merge_to_exactly_the_whole_ranking(queries, gallery, data):
    k = data.draw(st.integers(1, gallery))
    texts, images = (small_integers(count, 4, data.draw(st.integers(0, 2**16))) for count in (queries, gallery))
    parts = shards_of(texts, images, k, data.draw(st.integers(1, queries)), data.draw(st.integers(1, gallery)))
    parts = data.draw(st.permutations(parts))
    indices, scores = ranking.merge_shards(parts, k, queries=queries, gallery=gallery)
    whole = ranking.top_k(texts, images, k, memory_bytes=MEMORY)
    assert indices.equal(whole[0]) and scores.equal(whole[1])


def test_shards_of_dense_features_merge_to_exactly_the_whole_ranking():
    texts, images = features(37, 96, 13), features(410, 96, 14)
    merged = ranking.merge_shards(shards_of(texts, images, 10, 3, 4), 10, queries=37, gallery=410)
    whole = ranking.top_k(texts, images, 10, memory_bytes=MEMORY)
    assert merged[0].equal(whole[0]) and merged[1].equal(whole[1])


def test_ranges_are_split_without_gap_and_nearly_equally():
    assert ranking.split_range(10, 3) == [range(3), range(3, 6), range(6, 10)]


def broken(shard: ranking.Shard, indices: list[list[int]]) -> ranking.Shard:
    return ranking.Shard(shard.queries, shard.gallery, torch.tensor(indices), torch.zeros(len(indices), len(indices[0])))


EYE = torch.eye(4)
FIRST, SECOND = shards_of(EYE[:1], EYE, 2, 1, 2)
UPPER, LOWER = shards_of(EYE[:2], EYE, 2, 2, 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: ranking.top_k(EYE, EYE, 5, memory_bytes=MEMORY),
            "the first 5 of a gallery of 4 pictures cannot be ranked; ask for 1 to 4",
        ),
        (
            lambda: ranking.top_k(EYE, EYE, 0, memory_bytes=MEMORY),
            "the first 0 of a gallery of 4 pictures cannot be ranked; ask for 1 to 4",
        ),
        (
            lambda: ranking.top_k(EYE, EYE[:0], 1, memory_bytes=MEMORY),
            "the gallery is empty; read its pictures before ranking",
        ),
        (
            lambda: ranking.top_k(EYE, torch.eye(3), 1, memory_bytes=MEMORY),
            "text features (4, 4) and picture features (3, 3) do not fit; both have to be (items, dimensions) of the same model",
        ),
        (
            lambda: ranking.top_k(EYE, torch.tensor([[0.0] * 4, [float("nan")] * 4]), 1, memory_bytes=MEMORY),
            "picture feature 1 holds a value that is not finite; encode it again, in float32",
        ),
        (
            lambda: ranking.top_k(EYE * float("inf"), EYE, 1, memory_bytes=MEMORY),
            "text feature 0 holds a value that is not finite; encode it again, in float32",
        ),
        (lambda: ranking.split_range(3, 4), "3 items cannot be split into 4 shards; ask for 1 to 3"),
        (
            lambda: ranking.merge_shards([FIRST], 2, queries=1, gallery=4),
            "the shards do not cover 4 pictures exactly once: 2 to 4 are missing; rank what is missing, drop what is extra",
        ),
        (
            lambda: ranking.merge_shards([SECOND], 2, queries=1, gallery=4),
            "the shards do not cover 4 pictures exactly once: 0 to 2 are missing; rank what is missing, drop what is extra",
        ),
        (
            lambda: ranking.merge_shards([FIRST, SECOND, SECOND], 2, queries=1, gallery=4),
            "the shards do not cover 4 pictures exactly once: 2 to 4 are there twice or too many; rank what is missing, drop what is extra",
        ),
        (
            lambda: ranking.merge_shards([LOWER], 2, queries=2, gallery=4),
            "the shards do not cover 2 queries exactly once: 0 to 1 are missing; rank what is missing, drop what is extra",
        ),
        (
            lambda: ranking.merge_shards([UPPER, LOWER], 3, queries=2, gallery=4),
            "shard of queries 0-1, pictures 0-4 has shape (1, 2), expected (1, 3); rank it again with k = 3",
        ),
        (
            lambda: ranking.merge_shards([FIRST, broken(SECOND, [[1, 2]])], 2, queries=1, gallery=4),
            "shard of queries 0-1, pictures 2-4 names a picture outside of its part; rank it again",
        ),
        (
            lambda: ranking.merge_shards([FIRST, broken(SECOND, [[2, 2]])], 2, queries=1, gallery=4),
            "shard of queries 0-1, pictures 2-4 names a picture twice for one query; rank it again",
        ),
    ],
)
def test_messages_of_the_ranking(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
