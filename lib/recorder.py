"""What is written down while a model trains: the journal, TensorBoard, the log, and answers to look at for held-out pictures."""

import dataclasses
import math
import time

import numpy
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lib import generation, journal, llava, runtime
from lib.conversation import Sample
from lib.errors import StageFailed
from lib.llava import Llava
from lib.training_plan import Plan

BOARD = "tensorboard"
SHOWN_SAMPLES, SHOWN_TOKENS = 2, 160


class Recorder(TrainerCallback):
    """Called by the Trainer in every process; the first one writes."""

    def __init__(self, plan: Plan, bundle: Llava, samples: list[Sample]) -> None:
        self.plan, self.bundle = plan, bundle
        self.shown = samples[:: max(1, len(samples) // SHOWN_SAMPLES)][:SHOWN_SAMPLES]
        self.board: SummaryWriter | None = None
        self.clock = (time.monotonic(), 0)  # when it was started, and the steps that were done by then

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Open TensorBoard, dropping what a killed attempt wrote after its last checkpoint; start the clock."""
        self._start_clock(state)
        if state.is_world_process_zero:
            first = state.global_step + 1 if state.global_step else 0
            self.board = SummaryWriter(str(self.plan.out / BOARD), purge_step=first)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: object) -> None:
        """The training since the last row: loss, learning rate, gradient norm, speed, memory. Raises StageFailed where it diverges."""
        if "loss" not in (logs or {}):
            return
        if not math.isfinite(logs["loss"]):
            raise StageFailed(f"step {state.global_step}: the loss is {logs['loss']}; lower finetune.lr, now {self.plan.lr}")
        if not state.is_world_process_zero:
            return
        began, done = self.clock
        seconds = (time.monotonic() - began) / (state.global_step - done)
        row = {
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": float(logs["grad_norm"]),
            "samples_per_second": round(self.plan.samples_per_step / seconds, 3),
            "memory_mib": round(peak_memory_mib(self.plan.device)),
        }
        self._write("train", state, row)
        print(  # this program's output is its log
            f"step {state.global_step:05d}/{state.max_steps:05d} ({state.global_step / state.max_steps:.0%}) | loss {row['loss']:.3f} "
            f"| lr {row['lr']:.1e} | {seconds:.2f} s/step",
            flush=True,
        )
        self._start_clock(state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        metrics: dict[str, float],
        **_: object,
    ) -> None:
        """The validation loss, and what the model answers to the first question about some held-out pictures."""
        # NOTE: in every process, since with ZeRO-3 each holds a part of the weights.
        answers = generation.answer_samples(
            dataclasses.replace(self.bundle, model=model),
            self.shown,
            template=self.plan.template,
            resize=self.plan.resize,
            media_root=self.plan.media_root,
            max_new_tokens=SHOWN_TOKENS,
        )
        if state.is_world_process_zero:
            self._write("val", state, {"metrics": {"val_loss": metrics["eval_loss"]}})
            for sample, answer in zip(self.shown, answers, strict=True):
                self._show(sample, answer, state.global_step)
            self.board.flush()
        self._start_clock(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Leave the time of saving out of the speed."""
        self._start_clock(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Close TensorBoard."""
        if self.board is not None:
            self.board.close()

    def _start_clock(self, state: TrainerState) -> None:
        self.clock = (time.monotonic(), state.global_step)

    def _write(self, kind: str, state: TrainerState, row: dict) -> None:
        place = {"kind": kind, "step": state.global_step, "of": state.max_steps, "per_epoch": state.max_steps // self.plan.epochs}
        journal.append(self.plan.out, {**place, "epoch": state.epoch or 0.0, **row})
        for name, value in row.get("metrics", row).items():
            self.board.add_scalar(f"{kind}/{name.removeprefix('val_')}", value, state.global_step)

    def _show(self, sample: Sample, answer: str, step: int) -> None:
        for number, path in enumerate(sample.pictures, start=1):
            picture = numpy.asarray(llava.read_picture(self.plan.media_root / path))
            self.board.add_image(f"val/{sample.id}/{number}", picture, step, dataformats="HWC")
        self.board.add_text(f"val/{sample.id}", f"asked: {sample.turns[0].text}\n\nanswered: {answer}", step)


def peak_memory_mib(device: str) -> float:
    """The most memory used so far: of the GPU where there is one, else of this process (MiB)."""
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else runtime.peak_memory_mib()
