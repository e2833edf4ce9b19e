"""The published learning rate and weight-decay groups, by the formula and by open_clip's own trainer."""

from pathlib import Path

import pytest

from lib.errors import ConfigError
from lib.submissions.a3r import schedule

TOTAL = 151_320
RECIPE = {"peak": 4e-7, "warmup": 10_000, "total": TOTAL}
TINY = '{"embed_dim": 32, "vision_cfg": {"image_size": 28, "layers": 1, "width": 32, "head_width": 16, "patch_size": 14},'
TINY += ' "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}'


def test_the_plan_has_as_many_steps_as_the_published_one():
    assert schedule.total_steps(126_117, batch_size=25, epochs=1) == 5_044
    assert schedule.total_steps(126_117, batch_size=25, epochs=30) == TOTAL
    assert schedule.total_steps(126_117, batch_size=25, epochs=30, accumulate=4) == 1_261 * 30


@pytest.mark.parametrize(
    "step, expected",
    [
        (0, 4e-11),
        (5_043, 2.0176e-7),
        (9_999, 4e-7),
        (15_132, 3.98700e-7),
        (25_219, 3.88662e-7),
        (50_439, 3.24483e-7),
        (80_000, 2.02934e-7),
    ],
)
def test_the_learning_rate_has_the_published_values(step, expected):
    assert schedule.learning_rate(step, **RECIPE) == pytest.approx(expected, rel=2e-6)


def test_the_learning_rate_ends_at_practically_zero():
    assert 0 < schedule.learning_rate(TOTAL - 1, **RECIPE) < 1e-16


def test_epoch_five_of_thirty_is_not_the_end_of_a_five_epoch_plan():
    early, last = schedule.learning_rate(25_219, **RECIPE), schedule.learning_rate(25_219, peak=4e-7, warmup=10_000, total=25_220)
    assert early > 3.8e-7 and last < 1e-14


def test_open_clips_scheduler_gives_the_same_values():
    import torch
    from open_clip_train.scheduler import cosine_lr

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assign = cosine_lr(optimizer, 4e-7, 10_000, TOTAL)
    for step in [*range(0, TOTAL, 997), 9_999, 10_000, TOTAL - 1]:
        assign(step)
        assert optimizer.param_groups[0]["lr"] == schedule.learning_rate(step, **RECIPE)


@pytest.mark.parametrize(
    "name, dimensions, decayed",
    [
        ("visual.conv1.weight", 4, True),
        ("positional_embedding", 2, True),
        ("text_projection", 2, True),
        ("visual.class_embedding", 1, False),
        ("logit_scale", 0, False),
        ("logit_scale", 2, False),
        ("transformer.resblocks.0.ln_1.weight", 1, False),
        ("attn.in_proj_bias", 1, False),
        ("kiln.weight", 2, False),  # the substring quirk: "ln" inside another word
    ],
)
def test_weight_decay_acts_on_matrices_whose_names_hold_none_of_the_four_words(name, dimensions, decayed):
    assert schedule.is_decayed(name, dimensions) is decayed


class OptimizerBuilt(Exception):
    """Carries the parameter groups out of open_clip_train.main, which need not run any further."""


def test_open_clips_trainer_groups_the_parameters_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import open_clip
    from open_clip_train import main as trainer

    def refuse(groups: list[dict], **settings: object) -> None:
        raise OptimizerBuilt(groups)

    created = []
    create = trainer.create_model_and_transforms

    def remember(*arguments: object, **settings: object) -> tuple:
        created.append(create(*arguments, **settings))
        return created[-1]

    (tmp_path / "podium-groups.json").write_text(TINY)
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(trainer.optim, "AdamW", refuse)
    monkeypatch.setattr(trainer, "create_model_and_transforms", remember)
    arguments = ["--model", "podium-groups", "--dataset-type", "synthetic", "--train-num-samples", "4", "--batch-size", "2"]
    arguments += ["--device", "cpu", "--precision", "fp32", "--workers", "0", "--wd", "0.01", "--logs", str(tmp_path / "logs")]
    with pytest.raises(OptimizerBuilt) as built:
        trainer.main(arguments)
    named = dict(created[0][0].named_parameters())
    names = {id(value): name for name, value in named.items()}
    groups = {group["weight_decay"]: [names[id(value)] for value in group["params"]] for group in built.value.args[0]}
    undecayed, decayed = schedule.split_by_decay((name, value.ndim) for name, value in named.items())
    assert groups == {0.0: undecayed, 0.01: decayed}
    assert undecayed and decayed


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_of_the_plan_is_refused(step):
    with pytest.raises(ConfigError) as error:
        schedule.learning_rate(step, peak=1.0, warmup=2, total=10)
    assert str(error.value) == f"step {step} lies outside of a schedule of 10 steps; it has steps 0 to 9"


def test_a_plan_without_steps_is_refused():
    with pytest.raises(ConfigError) as error:
        schedule.total_steps(24, batch_size=25, epochs=3)
    assert str(error.value) == (
        "24 samples in batches of 25 (accumulated 1) over 3 epochs make no step; lower finetune.batch_size or bring more samples"
    )


def test_a_plan_shorter_than_its_warm_up_only_rises():
    rates = [schedule.learning_rate(step, peak=1.0, warmup=10, total=5) for step in range(5)]
    assert rates == [0.1, 0.2, 0.3, 0.4, 0.5]
