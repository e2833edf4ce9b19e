"""Fine-tuning: what it leaves, what trains, what is written down, how it is refused, and that a killed one ends in the same weights."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lib import datasets, journal, llava, recorder, training, training_plan
from lib.errors import ConfigError, StageFailed
from tests.tiny_training import RECIPE, write_plan, write_world

STEPS = 8  # 16 samples, 4 a step, 2 epochs
TIMED = {"samples_per_second", "memory_mib"}


class Killed(BaseException):
    """Ends a training as a signal would: nothing catches it."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SHOWN_TOKENS", 4)


def run(world: Path, out: Path, **changes: object) -> Path:
    training.train(training_plan.read_plan(write_plan(world, out, **changes)))
    return out


def killed_after(step: int, monkeypatch: pytest.MonkeyPatch, start: Callable[[], object]) -> None:
    """Start a training that is killed once that step is logged."""
    original = recorder.Recorder.on_log

    def log_or_die(self, args, state, control, **more: object) -> None:
        original(self, args, state, control, **more)
        if state.global_step == step:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(recorder.Recorder, "on_log", log_or_die)
        start()


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model/model.safetensors")


def rows(out: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in TIMED} for row in journal.read(out)]


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def read_plan(world: Path, out: Path, **changes: object) -> training_plan.Plan:
    return training_plan.read_plan(write_plan(world, out, **changes))


# --- what a training leaves ---


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "SHOWN_TOKENS", 4)
        return run(world, tmp_path_factory.mktemp("done"), evaluations_per_epoch=2)


def test_the_result_is_a_model_that_loads_and_has_learnt(done: Path):
    bundle = llava.load(done / "model", dtype="fp32", quantize="none")
    losses = [row["metrics"]["val_loss"] for row in journal.read(done) if row["kind"] == "val"]
    assert losses[-1] < losses[0] - 1
    assert bundle.tokenizer.image_token_id == bundle.model.config.image_token_index
    assert sorted(path.name for path in done.iterdir()) == [
        "checkpoints", "model", "params.txt", "plan.json", "progress.json", "tensorboard", "training.jsonl",
    ]  # fmt: skip


def test_the_newest_checkpoints_stay_and_progress_names_the_last(done: Path):
    assert {path.name for path in (done / "checkpoints").iterdir()} == {"checkpoint-6", "checkpoint-8"}
    assert json.loads((done / "progress.json").read_text()) == {"step": 8, "of": 8, "unit": "step"}


def test_the_journal_has_every_step_and_a_validation_before_the_first_and_after_the_last(done: Path):
    found = journal.read(done)
    assert [row["step"] for row in found if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["step"] for row in found if row["kind"] == "val"] == [0, 2, 4, 6, 8]
    first = next(row for row in found if row["kind"] == "train")
    assert {"loss", "lr", "grad_norm", "samples_per_second", "memory_mib"} <= first.keys()
    assert (first["of"], first["per_epoch"], first["epoch"]) == (8, 4, 0.25)


def test_the_rate_warms_up_and_falls_along_half_a_cosine(done: Path):
    found = [row["lr"] for row in journal.read(done) if row["kind"] == "train"]
    expected = [0.0, *(0.01 * 0.5 * (1 + math.cos(math.pi * step / 7)) for step in range(7))]
    assert found == pytest.approx(expected)


def test_tensorboard_shows_the_same_numbers_and_what_is_said_about_held_out_pictures(done: Path):
    board = EventAccumulator(str(done / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {
        "train/loss", "train/lr", "train/grad_norm", "train/samples_per_second", "train/memory_mib", "val/loss",
    }  # fmt: skip
    assert [event.step for event in board.Scalars("val/loss")] == [0, 2, 4, 6, 8]
    assert board.Tags()["images"] == ["val/s16/1", "val/s16/2", "val/s17/1", "val/s17/2"]
    assert board.Tags()["tensors"] == ["val/s16/text_summary", "val/s17/text_summary"]
    text = board.Tensors("val/s16/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("asked: <image>\nDescribe the vehicle.\n\nanswered: ")


def test_params_are_sorted_lines_without_places(done: Path):
    lines = (done / "params.txt").read_text().splitlines()
    assert lines == sorted(lines)
    assert "lr: 0.01" in lines and "lora: {'r': 4, 'alpha': 8, 'dropout': 0.1}" in lines
    assert not any(str(done) in line or line.startswith(("out:", "model:", "device:")) for line in lines)


def test_a_finished_training_is_not_begun_again(world: Path, done: Path):
    before = (done / "training.jsonl").read_bytes()
    run(world, done, evaluations_per_epoch=2)
    assert (done / "training.jsonl").read_bytes() == before


# --- killed and continued ---


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (3, {}),  # in the first epoch, after the checkpoint at its middle
        (7, {"method": "lora", "projector_lr": 0.001}),  # with random numbers of the dropout
        (7, {"batch_size": 2, "accumulation": 2, "group_by_length": False}),
    ],
)
def test_killed_and_started_again_it_ends_in_the_same_weights(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, changes: dict
):
    whole = run(world, tmp_path / "whole", **changes)
    killed_after(step, monkeypatch, lambda: run(world, tmp_path / "cut", **changes))
    assert not (tmp_path / "cut/model").exists()
    resumed = run(world, tmp_path / "cut", **changes)
    assert changed(weights(whole), weights(resumed)) == set()
    assert rows(resumed) == rows(whole)
    board = EventAccumulator(str(resumed / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("train/loss")] == list(range(1, STEPS + 1))
    assert [event.step for event in board.Scalars("val/loss")] == [0, 4, 8]


def test_killed_before_the_first_checkpoint_it_begins_again(world: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch):
    killed_after(1, monkeypatch, lambda: run(world, tmp_path))
    assert training.newest_checkpoint(tmp_path) is None
    assert changed(weights(done), weights(run(world, tmp_path))) == set()


def test_a_checkpoint_that_was_cut_off_does_not_count(world: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch):
    killed_after(5, monkeypatch, lambda: run(world, tmp_path))
    (tmp_path / "checkpoints/checkpoint-6").mkdir()
    (tmp_path / "checkpoints/checkpoint-6/model.safetensors").write_bytes(b"half")
    assert training.newest_checkpoint(tmp_path) == tmp_path / "checkpoints/checkpoint-4"
    assert changed(weights(done), weights(run(world, tmp_path))) == set()


def test_killed_between_the_last_step_and_the_export_it_only_exports(
    world: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch
):
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training, "export", die)
        run(world, tmp_path)
    before = rows(tmp_path)
    assert changed(weights(done), weights(run(world, tmp_path))) == set()
    assert rows(tmp_path) == before


def test_an_export_that_was_cut_off_is_made_again(world: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch):
    def half(bundle: llava.Llava, folder: Path) -> None:
        folder.mkdir()
        (folder / "model-00001-of-00002.safetensors").write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(llava, "save", half)
        run(world, tmp_path)
    assert not (tmp_path / "model").exists()
    run(world, tmp_path)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {path.name for path in (done / "model").iterdir()}


# --- what trains ---


def test_of_an_expanded_model_the_new_block_and_the_head_change(world: Path, done: Path):
    found = changed(load_file(world / "model/model.safetensors"), weights(done))
    assert {name for name in found if "layers.1." not in name} == {"language_model.lm_head.weight"}
    assert len(found) == 10


def test_in_full_everything_changes_but_the_tower(world: Path, tmp_path: Path):
    before = load_file(world / "model/model.safetensors")
    found = changed(before, weights(run(world, tmp_path, method="full", epochs=1)))
    assert found == {name for name in before if "vision_tower" not in name}


def test_adapters_change_linear_layers_and_the_projector(world: Path, tmp_path: Path):
    before = load_file(world / "model/model.safetensors")
    found = changed(before, weights(run(world, tmp_path, method="lora", epochs=1)))
    linear = {name for name in before if "language_model" in name and "_proj.weight" in name}
    assert found == linear | {name for name in before if "projector" in name}
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_a_projector_alone_begins_anew_by_the_seed(world: Path, tmp_path: Path):
    def begun(seed: int) -> dict[str, Tensor]:
        torch.rand(seed)  # what was drawn before makes no difference
        bundle = llava.load(world / "model", dtype="fp32", quantize="none")
        return training.prepare_model(bundle.model, read_plan(world, tmp_path, method="projector", seed=seed)).state_dict()

    before = llava.load(world / "model", dtype="fp32", quantize="none").model.state_dict()
    first, again, other = begun(1), begun(1), begun(2)
    projector = {name for name in before if "projector" in name}
    assert changed(before, first) == changed(first, other) == projector and changed(first, again) == set()
    for name in projector:  # torch draws both within one over the root of the inputs
        layer = name.rpartition(".")[0]
        assert first[name].abs().max() <= first[f"{layer}.weight"].shape[1] ** -0.5


def test_a_projector_alone_is_left_as_llavas_first_stage_leaves_it(world: Path, tmp_path: Path):
    before = load_file(world / "model/model.safetensors")
    after = weights(run(world, tmp_path, method="projector", epochs=1))
    assert changed(before, after) == {name for name in before if "projector" in name}
    found = torch.load(tmp_path / "mm_projector.bin", weights_only=True)
    names = {f"model.mm_projector.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")}
    assert found.keys() == names
    layers = {0: "linear_1", 2: "linear_2"}
    for number, layer in layers.items():
        for kind in ("weight", "bias"):
            assert torch.equal(found[f"model.mm_projector.{number}.{kind}"], after[f"multi_modal_projector.{layer}.{kind}"])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_nothing_below_the_lowest_trained_block_is_differentiated(world: Path, tmp_path: Path, checkpointing: bool):
    bundle = llava.load(world / "model", dtype="fp32", quantize="none")
    plan = read_plan(world, tmp_path, gradient_checkpointing=checkpointing)
    model = training.prepare_model(bundle.model, plan).train()
    asked = {}
    for number, layer in enumerate(model.model.language_model.layers):
        layer.register_forward_hook(lambda _, given, answer, number=number: asked.update({number: (given[0], answer)}))
    known = training.read_dataset(plan.train, bundle, plan)
    model(**datasets.Collator(0)([known[0], known[1]])).loss.backward()
    given_below, given_above = asked[0][0], asked[1][0]
    assert not given_below.requires_grad and not given_above.requires_grad
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        name for name, value in model.named_parameters() if value.requires_grad
    }


def test_gradient_checkpointing_changes_no_weight(world: Path, tmp_path: Path, done: Path):
    assert changed(weights(done), weights(run(world, tmp_path, gradient_checkpointing=True))) == set()


def test_without_zero_bf16_is_for_computing_and_weights_stay_fp32(world: Path, tmp_path: Path, done: Path):
    found = weights(run(world, tmp_path, precision="bf16"))
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert max((found[name] - value).abs().max() for name, value in weights(done).items()) < 0.02


def test_the_projector_has_its_own_rate_and_norms_do_not_decay(world: Path, tmp_path: Path):
    plan = read_plan(world, tmp_path, method="full", projector_lr=0.002, weight_decay=0.1)
    bundle = llava.load(world / "model", dtype="fp32", quantize="none")
    trainer = training.LlavaTrainer(
        plan, None, model=training.prepare_model(bundle.model, plan), args=training.training_arguments(plan, resumed=False)
    )
    groups = [(group["lr"], group["weight_decay"], len(group["params"])) for group in trainer.create_optimizer().param_groups]
    # language model: 2 layers of 7 linear maps and 2 norms, embeddings, head, last norm; projector: 2 linear maps with biases
    assert groups == [(0.01, 0.1, 16), (0.01, 0.0, 5), (0.002, 0.1, 2), (0.002, 0.0, 2)]


# --- the schedule ---


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4))
def test_what_is_due_so_many_times_per_epoch_is_due_at_its_end(per_epoch: int, times: int, epochs: int):
    due = [step for step in range(1, epochs * per_epoch + 1) if training.is_due(step, per_epoch, times)]
    assert len(due) == epochs * min(times, per_epoch)
    assert {epoch * per_epoch for epoch in range(1, epochs + 1)} <= set(due)


def test_each_epoch_has_all_samples_in_an_order_of_its_own(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    original = datasets.InstructionDataset.__getitem__

    def note(self: datasets.InstructionDataset, index: int) -> dict:
        if len(self) == 16:
            seen.append(index)
        return original(self, index)

    monkeypatch.setattr(datasets.InstructionDataset, "__getitem__", note)
    run(world, tmp_path)
    first, second = seen[:16], seen[16:]
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second
    assert first == list(datasets.SampleOrder(word_counts(world), 4, 1, 3, grouped=True))


def word_counts(world: Path) -> list[int]:
    return [datasets.count_words(sample) for sample in datasets.read_samples(world / "train.jsonl")]


def test_the_last_step_of_an_epoch_may_be_smaller(tmp_path: Path):
    out = run(write_world(tmp_path / "world", train=10, val=1), tmp_path / "out", epochs=1, saves_per_epoch=1)
    assert [row["step"] for row in journal.read(out) if row["kind"] == "train"] == [1, 2, 3]


# --- refusals ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "fast"}, "{plan}: lr: Input should be a valid number, unable to parse string as a number"),
        ({"learning_rate": 1}, "{plan}: learning_rate: Extra inputs are not permitted"),
        ({"epochs": 1.5}, "{plan}: epochs: Input should be a valid integer, got a number with a fractional part"),
        ({"batch_size": 0}, "{plan}: batch_size: Input should be greater than 0"),
        ({"template": "vicuna"}, "template 'vicuna' is not known; there are: chatml_direct, vicuna_v1, plain"),
        (
            {"attention": "flash_attention_2"},
            "finetune.attention is flash_attention_2, which needs an NVIDIA GPU; on a CPU it must be sdpa",
        ),
        (
            {"deepspeed": "zero3"},
            (
                "finetune.deepspeed is zero3, which shares a training among processes, and finetune.processes is 1; "
                "raise it, or set finetune.deepspeed to none"
            ),
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused_when_it_is_read(world: Path, tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        read_plan(world, tmp_path, **changes)
    assert str(caught.value) == message.format(plan=tmp_path / "plan.json")


def test_a_key_that_is_missing_is_named(world: Path, tmp_path: Path):
    path = write_plan(world, tmp_path)
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "lr"}))
    with pytest.raises(ConfigError, match="plan.json: lr: Field required$"):
        training_plan.read_plan(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch_size": 8, "accumulation": 3},
            "finetune.batch_size: 24 samples a step, there are 16 to train on; make the batch smaller",
        ),
        ({"processes": 2}, "finetune.processes is 2, 1 are running; start the program by torchrun with as many"),
        ({"new_blocks": 2}, "a model of 0 layers cannot be expanded; it has at least 1"),
    ],
)
def test_what_does_not_fit_data_or_model_is_one_line_on_stderr(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict, message: str
):
    assert training.main([str(write_plan(world, tmp_path, **changes))]) == 1
    assert capfd.readouterr().err.splitlines()[-1] == message
    assert not (tmp_path / "model").exists()


def test_a_loss_that_is_no_number_ends_the_training(world: Path, tmp_path: Path):
    watcher = recorder.Recorder(read_plan(world, tmp_path), None, [])
    with pytest.raises(StageFailed) as caught:
        watcher.on_log(None, SimpleNamespace(global_step=12), None, logs={"loss": math.nan})
    assert str(caught.value) == "step 12: the loss is nan; lower finetune.lr, now 0.01"


def test_a_full_disk_is_said_in_one_line(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def fail(*_: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")  # what torch.save says

    monkeypatch.setattr(training, "train", fail)
    monkeypatch.setattr(training.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert training.main([str(write_plan(world, tmp_path))]) == 1
    assert capfd.readouterr().err == (
        f"{tmp_path}: no space left on this disk; free some and give the same command again, finished work is kept\n"
    )


def test_every_key_of_a_plan_but_the_places_is_a_setting_of_the_recipe():
    places = {"out", "model", "train", "val", "media_root"}
    assert set(training_plan.Plan.model_fields) - places == set(RECIPE)
    assert places < training_plan.PLACES
