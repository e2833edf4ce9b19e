"""Fine-tuning and answering in real processes: killed by the system, shared by torchrun, DDP, ZeRO-2 and ZeRO-3 on a CPU."""

import os
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lib import datasets, files, generation, journal, launch, llava, recorder, training, training_plan
from lib.conversation import Sample, Turn
from lib.generation import Conversation, How
from tests.tiny_training import QUESTION, write_plan, write_world

pytestmark = [pytest.mark.engine, pytest.mark.slow]

WAIT_SECONDS = 300
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def train_here(world: Path, out: Path, **changes: object) -> Path:
    """The same training in this process, for comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "SHOWN_TOKENS", 1)
        training.train(training_plan.read_plan(write_plan(world, out, **changes)))
    return out


def start(plan: Path, processes: int = 1) -> subprocess.Popen:
    """The program as the finetune stage starts it; its output in train.log beside the plan."""
    command = launch.command("lib.training", [str(plan)], processes=processes)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (plan.parent / "train.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True)


def finish(child: subprocess.Popen, out: Path) -> None:
    assert child.wait(WAIT_SECONDS) == 0, (out / "train.log").read_text()[-3000:]


def kill(child: subprocess.Popen, out: Path, *, step: int) -> None:
    """Kill the program, and torchrun's workers with it, once the journal shows that step."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (journal.last_step(out) or {"step": 0})["step"] < step:
        assert child.poll() is None and time.monotonic() < deadline, (out / "train.log").read_text()[-3000:]
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def validation_losses(out: Path) -> list[float]:
    return [row["metrics"]["val_loss"] for row in journal.read(out) if row["kind"] == "val"]


def test_killed_by_the_system_and_started_again_it_ends_in_the_same_weights(world: Path, tmp_path: Path):
    whole, plan = train_here(world, tmp_path / "whole", epochs=6), write_plan(world, tmp_path / "cut", epochs=6)
    kill(start(plan), plan.parent, step=9)
    assert not (plan.parent / "model").exists()
    finish(start(plan), plan.parent)
    expected, found = (load_file(out / "model/model.safetensors") for out in (whole, plan.parent))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert validation_losses(plan.parent) == validation_losses(whole)
    assert "step 00009/00024" in (plan.parent / "train.log").read_text()


@pytest.mark.parametrize("deepspeed", ["none", "zero2", "zero3"])
def test_two_processes_learn_what_one_learns(world: Path, tmp_path: Path, deepspeed: str):
    changes = {"epochs": 1, "saves_per_epoch": 2}
    plan = write_plan(world, tmp_path / "two", **changes, batch_size=2, processes=2, deepspeed=deepspeed)
    if deepspeed == "zero3":  # the published one: cut off once, and continued
        kill(start(plan, processes=2), plan.parent, step=3)
    finish(start(plan, processes=2), plan.parent)
    alone = train_here(world, tmp_path / "one", **changes)
    # A process averages over its own tokens, and the processes do not have equally many.
    assert validation_losses(plan.parent) == pytest.approx(validation_losses(alone), rel=5e-3)
    before, after = (load_file(folder / "model/model.safetensors") for folder in (world, plan.parent))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name for name in changed if "layers.1." not in name} == {"language_model.lm_head.weight"}
    assert llava.load(plan.parent / "model", dtype="fp32", quantize="none").model.config.text_config.num_hidden_layers == 2


def test_a_projector_begins_alike_in_all_processes(world: Path, tmp_path: Path):
    changes = {"method": "projector", "epochs": 1, "lr": 1e-3}
    plan = write_plan(world, tmp_path / "two", **changes, batch_size=2, processes=2, deepspeed="zero3")
    finish(start(plan, processes=2), plan.parent)
    alone = train_here(world, tmp_path / "one", **changes)
    assert validation_losses(plan.parent) == pytest.approx(validation_losses(alone), rel=5e-3)
    before, after, expected = (load_file(folder / "model/model.safetensors") for folder in (world, plan.parent, alone))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if "projector" in name}
    assert all(torch.allclose(after[name], expected[name], atol=5e-3) for name in changed)


@pytest.mark.parametrize("deepspeed", ["none", "zero3"])
def test_a_process_with_texts_alone_keeps_no_other_waiting(world: Path, tmp_path: Path, deepspeed: str):
    pictured = datasets.read_samples(world / "train.jsonl")[:14]
    turns = (Turn("user", "Describe the road."), Turn("assistant", "The road is dry."))
    texts = [Sample(f"t{number}", turns, ()) for number in range(6)]
    files.write_jsonl(tmp_path / "mix.jsonl", map(asdict, [*pictured, *texts]))
    changes = {"train": str(tmp_path / "mix.jsonl"), "method": "full", "epochs": 1, "saves_per_epoch": 1}
    seen = [index < 14 for index in datasets.SampleOrder([1] * 14 + [-1] * 6, 2, 2, 3, grouped=True)]
    # Both have nothing but texts in one step, and one of them in the last.
    assert [False] * 4 in [seen[start : start + 4] for start in range(0, 16, 4)] and seen[16:] == [True, True, False, False]
    plan = write_plan(world, tmp_path / "two", **changes, batch_size=2, processes=2, deepspeed=deepspeed)
    finish(start(plan, processes=2), plan.parent)
    alone = train_here(world, tmp_path / "one", **changes)
    assert validation_losses(plan.parent) == pytest.approx(validation_losses(alone), rel=2e-2)
    assert validation_losses(alone)[-1] < 0.9 * validation_losses(alone)[0]


def test_answers_of_two_processes_are_those_of_one(world: Path, tmp_path: Path):
    known = datasets.read_samples(world / "train.jsonl")
    asked = [Conversation(one.id, one.pictures, (QUESTION, "And the road?")) for one in known]
    how = How(
        template="chatml_direct", resize="squash", history="as_published", max_new_tokens=8, sample=True, temperature=0.7,
        sampling_seed=4, tries=1,
    )  # fmt: skip
    said = []
    for parts, batch in ((1, 1), (2, 3)):
        out = tmp_path / f"parts-{parts}"
        plan = generation.Plan(
            model=world / "model", precision="fp32", conversations=out / "conversations.jsonl", media_root=world / "media", out=out,
            parts=parts, batch=batch, how=how,
        )  # fmt: skip
        said.append(generation.answer_all(lambda: generation.load_model(world / "model", "fp32"), asked, plan, label="asking"))
    assert said[0] == said[1]
    assert [row.id for row in said[0]] == [one.id for one in asked] and not any(row.failure for row in said[0])
