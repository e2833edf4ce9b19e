"""The recorded reference points of the tiny profile hold what the kit promises (`python -m lib reference SUBMISSION` records them)."""

import pytest

from lib import claims, config
from lib.scenes import ATTRIBUTES
from lib.submissions.dataengine import toy

SUBMISSIONS = ("a3r", "cityllava", "dataengine")
REFERENCES = {name: claims.read_references(config.config_file(name).with_name("reference.json")) for name in SUBMISSIONS}


def values(submission: str, benchmark: str, metric: str, model: str, group: str = "all") -> tuple[float, ...]:
    wanted = (benchmark, metric, group, model)
    return next(row.values for row in REFERENCES[submission] if (row.benchmark, row.metric, row.group, row.model) == wanted)


@pytest.mark.parametrize("submission", SUBMISSIONS)
def test_five_seeds_were_recorded(submission: str):
    assert all(len(set(row.seeds)) >= 5 for row in REFERENCES[submission])


# --- a3r ---


def ranked(model: str) -> tuple[float, ...]:
    return values("a3r", "test", "mAP@10", model)


def test_fine_tuning_reaches_the_promised_score_on_every_seed():
    assert min(ranked("finetuned")) >= 0.60


def test_fine_tuning_gains_the_promised_distance_over_the_base_on_every_seed():
    assert min(after - before for before, after in zip(ranked("base"), ranked("finetuned"), strict=True)) >= 0.15


def test_the_base_is_better_than_shuffled_answers_on_every_seed():
    assert all(before > 2 * chance for before, chance in zip(ranked("base"), ranked("shuffled"), strict=True))


# --- cityllava ---


@pytest.mark.parametrize("control", ["base", "shuffled"])
def test_fine_tuning_is_the_promised_distance_above_the_base_and_the_wrong_scene_on_every_seed(control: str):
    lower, higher = (values("cityllava", "val", "score", model) for model in (control, "finetuned"))
    assert min(after - before for before, after in zip(lower, higher, strict=True)) >= 15


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_is_told_twice_as_well_as_by_chance_over_the_seeds(attribute: str):
    times = beyond_chance(attribute)
    assert sum(times) / len(times) >= 2


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_is_told_better_than_by_chance_on_every_seed(attribute: str):
    assert min(beyond_chance(attribute)) > 1.4


def beyond_chance(attribute: str) -> list[float]:
    """Per seed, how many times as often the attribute is told right as by a guess."""
    told, chance = (values("cityllava", "val", "clause accuracy", model, attribute) for model in ("finetuned", "chance"))
    return [ours / guess for ours, guess in zip(told, chance, strict=True)]


# --- dataengine ---


def typed(model: str, type_: str) -> tuple[float, ...]:
    return values("dataengine", "seed", "type_accuracy", model, type_)


def test_the_engine_halves_at_least_the_error_of_the_type_that_the_base_mix_lacks_on_every_seed():
    before, after = (typed(model, toy.LACKING) for model in ("baseline", "finetuned"))
    assert all(100 - later <= (100 - earlier) / 2 for earlier, later in zip(before, after, strict=True))


@pytest.mark.parametrize("type_", toy.TAUGHT)
def test_no_other_type_loses_more_than_three_points_on_any_seed(type_: str):
    before, after = (typed(model, type_) for model in ("baseline", "finetuned"))
    assert min(later - earlier for earlier, later in zip(before, after, strict=True)) >= -3


def test_the_type_that_the_base_mix_lacks_is_answered_worst_before_the_engine_on_every_seed():
    error = {name: values("dataengine", "aokvqa", "error", "baseline", name) for name in (*toy.TAUGHT, toy.LACKING)}
    assert all(max(error, key=lambda name: error[name][place]) == toy.LACKING for place in range(5))


def test_weights_teach_the_lacking_type_better_than_as_many_records_drawn_evenly_on_every_seed():
    weighted, even = (typed(model, toy.LACKING) for model in ("finetuned", "equal-weights"))
    assert all(with_weights > without for with_weights, without in zip(weighted, even, strict=True))
