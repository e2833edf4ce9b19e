"""The recorded reference points of the tiny profile hold what the kit promises of it (`python -m lib reference a3r` records them)."""

from lib import claims, config

REFERENCES = claims.read_references(config.config_file("a3r").with_name("reference.json"))


def values(model: str) -> tuple[float, ...]:
    return next(
        row.values for row in REFERENCES if (row.benchmark, row.metric, row.group, row.model) == ("test", "mAP@10", "all", model)
    )


def test_five_seeds_were_recorded():
    assert all(len(set(row.seeds)) >= 5 for row in REFERENCES)


def test_fine_tuning_reaches_the_promised_score_on_every_seed():
    assert min(values("finetuned")) >= 0.60


def test_fine_tuning_gains_the_promised_distance_over_the_base_on_every_seed():
    assert min(after - before for before, after in zip(values("base"), values("finetuned"), strict=True)) >= 0.15


def test_the_base_is_better_than_shuffled_answers_on_every_seed():
    assert all(before > 2 * chance for before, chance in zip(values("base"), values("shuffled"), strict=True))
