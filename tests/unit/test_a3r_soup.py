"""Model soups: averages, the greedy order, what counts as the same architecture."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, WeightsError
from lib.submissions.a3r import soup

WEIGHTS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6)


def scalars(values: list[float]) -> list[dict[str, torch.Tensor]]:
    return [{"w": torch.tensor(value)} for value in values]


def near_two(state: soup.State) -> float:
    return 1 - abs(float(state["w"]) - 2)


@given(WEIGHTS)
def test_the_uniform_soup_is_the_mean_and_leaves_the_checkpoints_alone(values):
    states = scalars(values)
    mean = torch.tensor(values, dtype=torch.float64).mean().float()
    assert soup.uniform_soup(states)["w"] == pytest.approx(float(mean), rel=1e-6, abs=1e-6)
    assert [float(state["w"]) for state in states] == [float(torch.tensor(value)) for value in values]


@given(WEIGHTS)
def test_the_greedy_soup_is_never_worse_than_the_best_checkpoint_and_reports_its_own_average(values):
    states = scalars(values)
    greedy = soup.greedy_soup(states, near_two, quirk="corrected")
    assert greedy.metric >= max(near_two(state) for state in states)
    assert near_two(greedy.state) == greedy.metric
    assert greedy.state["w"].equal(soup.uniform_soup([states[number] for number in greedy.members])["w"])
    assert sorted(step.added for step in greedy.steps) == list(range(len(values)))
    assert greedy.members == tuple(step.added for step in greedy.steps if step.accepted)


def test_greedy_tries_the_better_checkpoint_first_and_drops_what_does_not_help():
    greedy = soup.greedy_soup(scalars([9.0, 1.0, 2.6]), near_two, quirk="corrected")
    assert greedy.members == (2, 1)
    assert [(step.added, step.accepted) for step in greedy.steps] == [(2, True), (1, True), (0, False)]


@given(WEIGHTS)
def test_the_published_greedy_soup_is_the_best_single_checkpoint(values):
    states = scalars(values)
    published = soup.greedy_soup(states, near_two, quirk="as_published")
    assert published.metric == max(near_two(state) for state in states)
    assert len(published.members) == 1 and not any(step.accepted for step in published.steps)


def test_sixteen_bit_weights_are_averaged_in_wide_numbers_and_keep_their_type():
    states = [{"w": torch.tensor(60000.0, dtype=torch.float16)} for _ in range(3)]
    mean = soup.uniform_soup(states)["w"]
    assert mean.dtype == torch.float16 and float(mean) == 60000.0


def test_counters_and_masks_are_taken_from_the_first_checkpoint():
    states = [{"count": torch.tensor(count), "mask": torch.tensor([count > 3])} for count in (3, 8)]
    mean = soup.uniform_soup(states)
    assert int(mean["count"]) == 3 and mean["mask"].tolist() == [False]


def keys(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(2) for name in names}


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: soup.uniform_soup([]), WeightsError, "a soup of no checkpoints; name at least one"),
        (lambda: soup.greedy_soup([], near_two, quirk="corrected"), WeightsError, "a soup of no checkpoints; name at least one"),
        (
            lambda: soup.uniform_soup([keys("a", "b"), keys("a", "b"), keys("a", "c")]),
            WeightsError,
            "checkpoint 3 and checkpoint 1 differ in b, c; a soup needs one architecture",
        ),
        (
            lambda: soup.uniform_soup([keys(*"abcdefgh"), keys("a")]),
            WeightsError,
            "checkpoint 2 and checkpoint 1 differ in b, c, d, e, f and 2 more; a soup needs one architecture",
        ),
        (
            lambda: soup.uniform_soup([keys("a"), {"a": torch.zeros(3, dtype=torch.float16)}]),
            WeightsError,
            "checkpoint 2 and checkpoint 1 differ in a (3,) float16 against (2,) float32; a soup needs one architecture",
        ),
        (
            lambda: soup.greedy_soup(scalars([1.0, float("nan")]), near_two, quirk="corrected"),
            WeightsError,
            "checkpoint 2 has the metric nan; leave a diverged checkpoint out of the soup",
        ),
        (
            lambda: soup.greedy_soup(scalars([1.0]), near_two, quirk="fixed"),
            ConfigError,
            "the greedy soup has no quirk setting 'fixed'; it has: as_published, corrected",
        ),
    ],
)
def test_messages_of_the_soup(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
