"""What the finetune stages of LLaVA models share: steps, schedule, plan, and what is told while a training goes on."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import config, files, journal, training, training_plan, tuning
from lib.adapters import Lora
from lib.errors import ConfigError
from lib.launch import Step
from tests.tiny_llava import build_bundle

RESOLVED = config.resolve("dataengine")
CFG = RESOLVED.for_stage("finetune", ("model",))


def test_the_last_step_of_an_epoch_may_be_short_and_a_first_step_has_to_be_full():
    recipe = CFG.finetune.model_copy(update={"batch_size": 4, "accumulation": 2, "processes": 3})
    assert [tuning.steps_per_epoch(count, recipe) for count in (24, 25, 48)] == [1, 2, 2]
    with pytest.raises(ConfigError) as caught:
        tuning.steps_per_epoch(23, recipe)
    assert str(caught.value) == "finetune.batch_size: 24 samples a step, there are 23; make the batch smaller"


def test_the_rate_warms_up_in_a_line_and_falls_in_half_a_cosine():
    recipe = CFG.finetune.model_copy(update={"lr": 2.0, "warmup_ratio": 0.2})
    rates = dict(tuning.learning_rates(100, recipe))
    assert (rates[0], rates[10], rates[20], rates[60]) == (0.0, 1.0, 2.0, pytest.approx(1.0)) and rates[100] == pytest.approx(0.0)
    assert len(tuning.learning_rates(100_000, recipe)) <= tuning.SCHEDULE_POINTS + 1


@pytest.mark.parametrize("method", ["lora", "projector", "full", "blocks"])
def test_what_trains_is_counted_by_part(tmp_path: Path, method: str):
    model = build_bundle(tmp_path).model
    sizes = {name: value.numel() for name, value in model.named_parameters()}
    recipe = CFG.finetune.model_copy(update={"method": method, "trained": "blocks_and_head"})
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    rows = {row["part"]: (row["parameters"], row["trained"]) for row in tuning.trainable(shapes, recipe, new_blocks=method == "blocks")}
    prepared = training.prepare_model(model, plan_of(method, recipe.lora))
    trained = {name: value.numel() for name, value in prepared.named_parameters() if value.requires_grad}
    assert rows["all"][1] == sum(trained.values())
    projector = sum(size for name, size in sizes.items() if "projector" in name)
    assert rows["all"][0] == sum(sizes.values()) + (rows["all"][1] - projector if method == "lora" else 0)
    assert rows["projector"] == (projector, 0 if method == "blocks" else projector) and rows["vision tower"][1] == 0


def plan_of(method: str, lora: Lora) -> SimpleNamespace:
    """What `training.prepare_model` reads of a plan."""
    return SimpleNamespace(
        method=method, new_blocks=1, trained="blocks_and_head", lora=lora, deepspeed="none", seed=0, gradient_checkpointing=False
    )


def test_guessing_costs_the_logarithm_of_the_vocabulary():
    assert tuning.guessing_loss(CFG) == math.log(CFG.model.architecture["text"]["vocab_size"])


def test_the_plan_is_one_that_the_trainer_reads(tmp_path: Path):
    start = tuning.Start(tmp_path / "base", tmp_path / "data", "vicuna_v1", "pad")
    files.write_json(tmp_path / "plan.json", tuning.training_plan(CFG, start, tmp_path))
    plan = training_plan.read_plan(tmp_path / "plan.json")
    assert (plan.model, plan.media_root, plan.train) == (tmp_path / "base", tmp_path / "data", tmp_path / tuning.TRAIN)
    assert plan.lr == CFG.finetune.lr and plan.new_blocks == 0


def test_the_newest_step_is_told_once_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert tuning.watch(tmp_path) is None
    row = {"step": 20, "of": 80, "loss": 1.25, "lr": 2e-4, "samples_per_second": 31.26}
    monkeypatch.setattr(journal, "last_step", lambda out: row)
    assert tuning.watch(tmp_path) == Step(20, 80, "loss 1.250 | lr 2.0e-04 | 31.3 samples/s")
