"""The recorded reference points of the tiny profile hold what the kit promises of it (`python -m lib reference cityllava` records them)."""

import pytest

from lib import claims, config
from lib.scenes import ATTRIBUTES

REFERENCES = claims.read_references(config.config_file("cityllava").with_name("reference.json"))


def values(model: str, metric: str = "score", group: str = "all") -> tuple[float, ...]:
    return next(row.values for row in REFERENCES if (row.benchmark, row.metric, row.group, row.model) == ("val", metric, group, model))


def test_five_seeds_were_recorded():
    assert all(len(set(row.seeds)) >= 5 for row in REFERENCES)


@pytest.mark.parametrize("control", ["base", "shuffled"])
def test_fine_tuning_is_the_promised_distance_above_the_base_and_the_wrong_scene_on_every_seed(control: str):
    assert min(after - before for before, after in zip(values(control), values("finetuned"), strict=True)) >= 15


# What falls short of the promise, as the README's limits say; a recipe that keeps it makes its test fail until the name is struck out.
SHORT = {"sight"}


@pytest.mark.parametrize(
    "attribute",
    [pytest.param(name, marks=pytest.mark.xfail(strict=True, reason="falls short")) if name in SHORT else name for name in ATTRIBUTES],
)
def test_every_attribute_is_told_twice_as_well_as_by_chance_over_the_seeds(attribute: str):
    times = beyond_chance(attribute)
    assert sum(times) / len(times) >= 2


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_is_told_better_than_by_chance_on_every_seed(attribute: str):
    assert min(beyond_chance(attribute)) > 1.4


def beyond_chance(attribute: str) -> list[float]:
    """Per seed, how many times as often the attribute is told right as by a guess."""
    told, chance = (values(model, "clause accuracy", attribute) for model in ("finetuned", "chance"))
    return [ours / guess for ours, guess in zip(told, chance, strict=True)]
