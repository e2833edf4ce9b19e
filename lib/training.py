"""Supervised fine-tuning of a LLaVA model by the Hugging Face Trainer, in processes of its own: `python -m lib.training PLAN.json`.

The same program trains the toy model on one CPU and, under torchrun with DeepSpeed ZeRO, the published one on eight GPUs. It leaves
`training.jsonl` (lib.journal), `tensorboard/`, `params.txt`, `checkpoints/checkpoint-N` and, written last, `model/` in Hugging Face
layout; with LoRA also `adapter/` in PEFT's format, merged into `model/`. Killed and started again it continues from its newest
checkpoint and ends in the same weights, bit for bit on a CPU.
"""

import dataclasses
import logging
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

from lib import runtime

if __name__ == "__main__":
    # Before anything heavy: under torchrun the parent is torchrun's agent, not the process that PODIUM_PARENT names.
    runtime.die_with_parent(os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None)

import numpy
import pydantic
import torch
import transformers
from pydantic import Field
from torch import nn
from torch.utils.data import Sampler
from torch.utils.tensorboard import SummaryWriter
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from lib import adapters, blocks, conversation, datasets, files, generation, journal, llava, paths
from lib.config import Section
from lib.datasets import Sample
from lib.errors import ConfigError, KitError

logger = logging.getLogger(__name__)

Positive = Annotated[int, Field(gt=0)]

CHECKPOINTS, MODEL, ADAPTER, BOARD, PARAMS = "checkpoints", "model", "adapter", "tensorboard", "params.txt"
DEEPSPEED = {"zero2": "script/deepspeed/zero2.json", "zero3": "script/deepspeed/zero3.json"}
PLACES = {"out", "model", "train", "val", "media_root", "workers", "device"}
SHOWN_SAMPLES, SHOWN_TOKENS = 2, 160


class Plan(Section):
    """All that one training depends on; written as JSON by the finetune stage. Names as in config.yaml."""

    out: Path
    model: Path  # the starting weights in Hugging Face layout
    train: Path  # samples, one JSON line each (lib.datasets.Sample)
    val: Path  # held-out samples for the validation loss
    media_root: Path  # what the samples' pictures are relative to
    template: str  # of lib.conversation
    resize: Literal["squash", "pad"]
    method: Literal["blocks", "lora", "full"]
    new_blocks: int  # inserted into the language model; read by method blocks
    trained: Literal["blocks_and_head", "blocks", "head"]  # read by method blocks
    lora: adapters.Lora
    batch_size: Positive
    accumulation: Positive
    processes: Positive
    epochs: float
    lr: float
    projector_lr: float | None
    warmup_ratio: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    grad_clip_norm: float
    max_length: Positive
    group_by_length: bool
    precision: Literal["fp32", "bf16"]
    gradient_checkpointing: bool
    deepspeed: Literal["none", "zero2", "zero3"]
    attention: Literal["sdpa", "flash_attention_2"]
    saves_per_epoch: Positive
    keep_checkpoints: Positive
    evaluations_per_epoch: Positive
    log_every: Positive
    seed: int
    workers: int
    device: Literal["cpu", "cuda"]

    @property
    def per_step(self) -> int:
        """Samples of one optimiser step over all processes."""
        return self.batch_size * self.accumulation * self.processes


def read_plan(path: Path) -> Plan:
    """The plan of a JSON file. Raises ConfigError naming the key that is missing, unknown or out of range, or values that clash."""
    try:
        plan = Plan.model_validate(files.read_json(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if plan.device == "cpu" and plan.attention != "sdpa":
        raise ConfigError(f"finetune.attention is {plan.attention}, which needs an NVIDIA GPU; on a CPU it must be sdpa")
    return plan


def train(plan: Plan) -> None:
    """Train to the end of the plan and export; what an earlier attempt in the same folder left is continued."""
    resumed = get_last_checkpoint(plan.out / CHECKPOINTS) if (plan.out / CHECKPOINTS).is_dir() else None
    arguments = training_arguments(plan, steps_per_epoch=steps_per_epoch(plan), resumed=resumed is not None)
    # NOTE: ZeRO-3 shards weights while they are loaded, and knows it must only once the arguments exist.
    bundle = llava.load(plan.model, dtype=plan.precision, quantize="none", attention=plan.attention)
    model = prepare_model(bundle.model, plan)
    template = conversation.TEMPLATES[plan.template]
    open_set = {"bundle": bundle, "template": template, "media_root": plan.media_root, "resize": plan.resize, "max_length": plan.max_length}
    sets = {name: datasets.InstructionDataset(datasets.read_samples(getattr(plan, name)), **open_set) for name in ("train", "val")}
    trainer = LlavaTrainer(
        plan=plan,
        model=model,
        args=arguments,
        train_dataset=sets["train"],
        eval_dataset=sets["val"],
        data_collator=datasets.Collator(bundle.tokenizer.pad_token_id),
        callbacks=[Recorder(plan, bundle, sets["val"].samples)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if trainer.is_world_process_zero():
        write_params(plan)
    trainer.train(resume_from_checkpoint=resumed)
    export(trainer, bundle, plan)


def prepare_model(model: nn.Module, plan: Plan) -> nn.Module:
    """Set what trains. Below the lowest layer that trains nothing asks for a gradient, so autograd keeps no activation there."""
    if plan.method == "blocks":
        layers = model.config.text_config.num_hidden_layers
        blocks.freeze(model, blocks.plan_expansion(layers - plan.new_blocks, plan.new_blocks), blocks.TRAINED[plan.trained])
        return model
    if plan.method == "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(adapters.TOWER not in name)
        return model
    return adapters.attach(model, plan.lora)


def steps_per_epoch(plan: Plan) -> int:
    """Optimiser steps of one epoch; the last may be smaller, none is dropped."""
    samples = len(datasets.read_samples(plan.train))
    return -(-samples // plan.per_step)


def training_arguments(plan: Plan, *, steps_per_epoch: int, resumed: bool) -> TrainingArguments:
    """The Trainer's arguments for this plan."""
    return TrainingArguments(
        output_dir=str(plan.out / CHECKPOINTS),
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.accumulation,
        num_train_epochs=plan.epochs,
        learning_rate=plan.lr,
        lr_scheduler_type="cosine",
        warmup_steps=plan.warmup_ratio,  # below one: a share of all steps
        weight_decay=plan.weight_decay,
        optim="adamw_torch",
        adam_beta1=plan.beta1,
        adam_beta2=plan.beta2,
        adam_epsilon=plan.eps,
        max_grad_norm=plan.grad_clip_norm,
        bf16=plan.precision == "bf16",
        tf32=True if plan.device == "cuda" else None,
        gradient_checkpointing=plan.gradient_checkpointing,
        # The reentrant kind needs inputs that ask for a gradient, which would differentiate every frozen layer below the blocks.
        gradient_checkpointing_kwargs={"use_reentrant": False} if plan.gradient_checkpointing else None,
        deepspeed=None if plan.deepspeed == "none" else str(paths.ROOT / DEEPSPEED[plan.deepspeed]),
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        eval_steps=max(1, steps_per_epoch // plan.evaluations_per_epoch),
        eval_on_start=not resumed,
        save_strategy="steps",
        save_steps=max(1, steps_per_epoch // plan.saves_per_epoch),
        save_total_limit=plan.keep_checkpoints,
        logging_steps=plan.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=plan.workers,
        seed=plan.seed,
        use_cpu=plan.device == "cpu",
    )


class LlavaTrainer(Trainer):
    """The Trainer with the published order of samples, and a learning rate of its own for the projector where one is given."""

    def __init__(self, *, plan: Plan, **given: object) -> None:
        self.plan = plan
        super().__init__(**given)
        # As published: the loss of a step is the mean over its micro-batches, not over all tokens of the step.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, *_: object) -> Sampler | None:
        plan = self.plan
        lengths = self.train_dataset.lengths
        return datasets.SampleOrder(lengths, plan.batch_size, plan.processes * plan.accumulation, plan.seed, grouped=plan.group_by_length)

    def create_optimizer(self, *given: object) -> torch.optim.Optimizer:
        """AdamW over what trains; the projector in a group of its own if it has its own rate."""
        if self.plan.projector_lr is None or self.optimizer is not None:
            return super().create_optimizer(*given)
        trained = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        projector = [parameter for name, parameter in trained if adapters.PROJECTOR in name]
        others = [parameter for name, parameter in trained if adapters.PROJECTOR not in name]
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = kind([{"params": others}, {"params": projector, "lr": self.plan.projector_lr}], **options)
        return self.optimizer


class Recorder(TrainerCallback):
    """Writes the journal, TensorBoard and progress as the training goes, and what the model says about held-out pictures."""

    def __init__(self, plan: Plan, bundle: llava.Llava, samples: list[Sample]) -> None:
        self.plan, self.bundle, self.samples = plan, bundle, samples[:: max(1, len(samples) // SHOWN_SAMPLES)][:SHOWN_SAMPLES]
        self.board: SummaryWriter | None = None
        self.told = (time.monotonic(), 0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Open TensorBoard, dropping what a killed attempt wrote after the checkpoint; start the clock."""
        self.told = (time.monotonic(), state.global_step)
        if state.is_world_process_zero:
            self.board = SummaryWriter(str(self.plan.out / BOARD), purge_step=state.global_step + 1 if state.global_step else None)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: object) -> None:
        """One training step: loss, learning rate, gradient norm, speed, memory."""
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        now, (before, done) = time.monotonic(), self.told
        self.told = (now, state.global_step)
        seconds = (now - before) / max(1, state.global_step - done)
        row = {
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": float(logs.get("grad_norm") or 0.0),
            "samples_per_second": round(self.plan.per_step / seconds, 3),
            "memory_mib": round(memory_mib(self.plan.device)),
        }
        self._write("train", state, row)
        print(  # this program's output is its log
            f"step {state.global_step:05d}/{state.max_steps:05d} ({state.global_step / state.max_steps:.0%}) | loss {row['loss']:.3f} "
            f"| lr {row['lr']:.1e} | {seconds:.2f} s/step",
            flush=True,
        )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict | None = None, **given: object
    ) -> None:
        """The validation loss, and the answers to the first question about a few held-out samples."""
        answers = generation.answer_samples(
            dataclasses.replace(self.bundle, model=given["model"]),
            self.samples,
            template=conversation.TEMPLATES[self.plan.template],
            resize=self.plan.resize,
            media_root=self.plan.media_root,
            max_new_tokens=SHOWN_TOKENS,
        )
        if not state.is_world_process_zero:
            return
        self._write("val", state, {"metrics": {"val_loss": metrics["eval_loss"]}})
        for sample, text in zip(self.samples, answers, strict=True):
            for path in sample.pictures:
                picture = numpy.asarray(llava.read_picture(self.plan.media_root / path))
                self.board.add_image(f"val/{sample.id}/{Path(path).parts[1]}", picture, state.global_step, dataformats="HWC")
            self.board.add_text(f"val/{sample.id}", f"asked: {sample.turns[0].text}\n\nanswered: {text}", state.global_step)
        self.board.flush()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Note for `plan` how far a resumed training would start."""
        if state.is_world_process_zero:
            files.write_json(self.plan.out / "progress.json", {"step": state.global_step, "of": state.max_steps, "unit": "step"})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Close TensorBoard."""
        if self.board is not None:
            self.board.close()

    def _write(self, kind: str, state: TrainerState, row: dict) -> None:
        per_epoch = round(state.max_steps / state.num_train_epochs)
        place = {"kind": kind, "step": state.global_step, "of": state.max_steps, "per_epoch": per_epoch, "epoch": state.epoch or 0.0}
        journal.append(self.plan.out, {**place, **row})
        for name, value in row.get("metrics", row).items():
            self.board.add_scalar(f"{kind}/{name.removeprefix('val_')}", value, state.global_step)


def memory_mib(device: str) -> float:
    """The most memory used so far: of the GPU where there is one, else of this process (MiB)."""
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else runtime.peak_memory_mib()


def write_params(plan: Plan) -> None:
    """params.txt as people look for it: `name: value` per line, sorted, no place of this machine."""
    values = {name: value for name, value in plan.model_dump(mode="json").items() if name not in PLACES}
    files.write_text(plan.out / PARAMS, "".join(f"{name}: {values[name]}\n" for name in sorted(values)))


def export(trainer: Trainer, bundle: llava.Llava, plan: Plan) -> None:
    """Write `model/` whole or not at all; adapters are written on their own and merged into the weights they were trained on."""
    draft = plan.out / f".{MODEL}"
    trainer.save_model(str(plan.out / ADAPTER if plan.method == "lora" else draft))
    if not trainer.is_world_process_zero():
        return
    if plan.method == "lora":
        merge_adapter(plan, draft)
    else:
        llava.save_preprocessing(bundle, draft)
    draft.replace(plan.out / MODEL)


def merge_adapter(plan: Plan, folder: Path) -> None:
    """Write the starting weights with the adapter added to them, on the CPU, whatever sharded the training."""
    transformers.integrations.deepspeed.unset_hf_deepspeed_config()
    bundle = llava.load(plan.model, dtype=plan.precision, quantize="none", attention="sdpa")
    llava.save(dataclasses.replace(bundle, model=adapters.merge(bundle.model, plan.out / ADAPTER)), folder)


def main(arguments: list[str]) -> int:
    """Train by the plan in a JSON file; a refusal is one line, as the last of the log."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(runtime.threads())
    try:
        train(read_plan(Path(arguments[0])))
    except KitError as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
