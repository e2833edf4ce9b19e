"""Supervised fine-tuning of a LLaVA model by the Hugging Face Trainer, in processes of its own: `python -m lib.training PLAN.json`.

The same program trains the toy model on one CPU and, under torchrun with DeepSpeed ZeRO, the published one on eight GPUs. It leaves
`training.jsonl` (lib.journal), `tensorboard/`, `params.txt`, `checkpoints/checkpoint-N` and, written last, `model/` in Hugging Face
layout; with LoRA also `adapter/` in PEFT's format, merged into `model/`, with a projector alone `mm_projector.bin` as well. Killed and
started again it continues from its newest whole checkpoint and ends in the same weights, bit for bit on a CPU.
"""

import dataclasses
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from lib import runtime

if __name__ == "__main__":
    # Before anything heavy: under torchrun the parent is torchrun's agent, not the process that PODIUM_PARENT names.
    runtime.die_with_parent(os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None)
    if runtime.accelerator() == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # deepspeed decides when it is imported

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Sampler
from transformers import AutoModelForImageTextToText, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import unset_hf_deepspeed_config

from lib import adapters, blocks, checkpoints, conversation, datasets, files, llava, paths, training_plan
from lib.errors import ConfigError, KitError, WeightsError
from lib.llava import Llava
from lib.recorder import Recorder
from lib.training_plan import Plan

logger = logging.getLogger(__name__)

CHECKPOINTS, MODEL, ADAPTER, PARAMS, PROGRESS = "checkpoints", "model", "adapter", "params.txt", "progress.json"
WEIGHTS = "trained.safetensors"  # in a checkpoint
DEEPSPEED = {"zero2": "script/deepspeed/zero2.json", "zero3": "script/deepspeed/zero3.json"}


def train(plan: Plan) -> None:
    """Train to the end of the plan and export; what an earlier attempt in the same folder left is continued, or found complete.

    Raises ConfigError for a plan that does not fit its data, model or processes, DataError for a sample or picture, WeightsError for
    the starting weights, StageFailed where the loss is no number any more.
    """
    if (plan.out / MODEL).is_dir():
        return
    _check_processes(plan)
    if plan.deepspeed != "none" and plan.device == "cpu":
        join_processes()
    transformers.set_seed(plan.seed)  # adapters begin at random
    checkpoint = newest_checkpoint(plan.out)
    arguments = training_arguments(plan, resumed=checkpoint is not None)
    # NOTE: ZeRO-3 shards weights while they are loaded, and knows that it must once the arguments exist.
    bundle = llava.load(plan.model, dtype=_dtype(plan), quantize="none", attention=plan.attention)
    known = {name: read_dataset(path, bundle, plan) for name, path in (("train", plan.train), ("val", plan.val))}
    if len(known["train"]) < plan.samples_per_step:
        raise ConfigError(
            f"finetune.batch_size: {plan.samples_per_step} samples a step, there are {len(known['train'])} to train on; "
            "make the batch smaller"
        )
    order = datasets.SampleOrder(
        known["train"].lengths, plan.batch_size, plan.processes * plan.accumulation, plan.seed, grouped=plan.group_by_length
    )
    trainer = LlavaTrainer(
        plan,
        order,
        model=prepare_model(bundle.model, plan),
        args=arguments,
        train_dataset=known["train"],
        eval_dataset=known["val"],
        data_collator=collator(bundle, plan),
        callbacks=[Schedule(plan, order), Recorder(plan, bundle, known["val"].samples)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if trainer.is_world_process_zero():
        files.write_text(plan.out / PARAMS, training_plan.params(plan))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    export(trainer, bundle, plan)


def join_processes() -> None:
    """Let DeepSpeed know the other processes, which the Trainer does on GPUs only, and keep it from compiling operations for a CPU."""
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed("gloo")


def read_dataset(path: Path, bundle: Llava, plan: Plan) -> datasets.InstructionDataset:
    """The samples of a file, prepared as the plan says."""
    return datasets.InstructionDataset(
        datasets.read_samples(path),
        bundle=bundle,
        template=conversation.TEMPLATES[plan.template],
        media_root=plan.media_root,
        resize=plan.resize,
        max_length=plan.max_length,
    )


def collator(bundle: Llava, plan: Plan) -> datasets.Collator:
    """What makes the batches. Among several processes every batch has a picture, if only one that trains nothing, as in LLaVA.

    They wait for one another at every part of the model: one whose batch is all text would leave out tower and projector, and the
    others would wait for its share of their weights or gradients for ever.
    """
    return datasets.Collator(bundle.tokenizer.pad_token_id, datasets.untrained_picture(bundle) if plan.processes > 1 else None)


def prepare_model(model: nn.Module, plan: Plan) -> nn.Module:
    """Set what trains. Below the lowest layer that trains nothing asks for a gradient, so autograd keeps no activation there."""
    if plan.method == "blocks":
        layers = model.config.text_config.num_hidden_layers
        blocks.freeze(model, blocks.plan_expansion(layers - plan.new_blocks, plan.new_blocks), blocks.TRAINED[plan.trained])
    elif plan.method == "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(adapters.TOWER not in name)
    elif plan.method == "projector":
        renew_projector(model, plan)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(adapters.PROJECTOR in name)
    else:
        model = adapters.attach(model, plan.lora)
    if plan.gradient_checkpointing:
        model.activation_checkpointing_enable()
        # transformers makes the embeddings ask for a gradient here, for the reentrant kind's sake: every frozen layer would be
        # differentiated. This is why the Trainer is not told to do it.
        model.disable_input_require_grads()
    return model


def renew_projector(model: nn.Module, plan: Plan) -> None:
    """Give the projector the weights of new layers, drawn by the plan's seed alone: LLaVA's first stage trains it from nothing."""
    layers = [module for name, module in model.named_modules() if adapters.PROJECTOR in name and isinstance(module, nn.Linear)]
    with whole([parameter for layer in layers for parameter in layer.parameters()], plan), torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        for layer in layers:
            layer.reset_parameters()


def whole(parameters: list[nn.Parameter], plan: Plan) -> AbstractContextManager:
    """Within it the parameters, which ZeRO-3 shares out among the processes, are whole; what the first process makes of them is kept."""
    if plan.deepspeed != "zero3":
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)


def training_arguments(plan: Plan, *, resumed: bool) -> TrainingArguments:
    """The Trainer's arguments for this plan; when to validate and to save is decided by `Schedule`."""
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
        optim="adamw_torch_fused",
        adam_beta1=plan.beta1,
        adam_beta2=plan.beta2,
        adam_epsilon=plan.eps,
        max_grad_norm=plan.grad_clip_norm,
        bf16=plan.precision == "bf16",
        tf32=True if plan.device == "cuda" else None,
        deepspeed=None if plan.deepspeed == "none" else str(paths.ROOT / DEEPSPEED[plan.deepspeed]),
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if plan.device == "cpu" and plan.processes > 1 else None,
        eval_on_start=not resumed,
        prediction_loss_only=True,
        save_strategy="no",
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
    """The Trainer with the published order of samples, a learning rate of its own for the projector, and checkpoints of what trains."""

    def __init__(self, plan: Plan, order: Sampler, **given: object) -> None:
        self.plan, self.order = plan, order
        super().__init__(**given)
        # As published: the loss of a step is the mean over its micro-batches, not over all tokens of the step.
        self.model_accepts_loss_kwargs = False

    def save_model(self, output_dir: str, _internal_call: bool = False) -> None:
        """Write the weights that train into a checkpoint, by their names in memory; with ZeRO, DeepSpeed writes all of them beside.

        The Trainer's own writing gives them the names of the published layout, from which it then resumes without loading any.
        """
        if self.args.should_save and not self.is_deepspeed_enabled:
            trained = {name: weight.detach().contiguous() for name, weight in self._trained()}
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(trained, Path(output_dir) / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        saved, trained = load_file(Path(resume_from_checkpoint) / WEIGHTS), dict(self._trained())
        if saved.keys() != trained.keys():
            odd = min(saved.keys() ^ trained.keys())
            raise WeightsError(f"{resume_from_checkpoint}: of another training, as {odd} shows; delete the folder of the stage's result")
        self.model.load_state_dict(saved, strict=False)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)

    def _get_train_sampler(self, *_: object) -> Sampler:
        return self.order

    def create_optimizer(self, *_: object) -> torch.optim.Optimizer:
        """AdamW over what trains, biases and norms without weight decay; made once."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(self.parameter_groups(), **options)
        return self.optimizer

    def parameter_groups(self) -> list[dict]:
        """What trains by learning rate and weight decay; the projector is last if it has its own rate, since the first one is logged."""
        decayed = set(self.get_decay_parameter_names(self.model))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self._trained():
            own_rate = self.plan.projector_lr is not None and adapters.PROJECTOR in name
            groups.setdefault((own_rate, name not in decayed), []).append(parameter)
        return [
            {
                "params": groups[own_rate, plain],
                "lr": self.plan.projector_lr if own_rate else self.plan.lr,
                "weight_decay": 0.0 if plain else self.plan.weight_decay,
            }
            for own_rate, plain in sorted(groups)
        ]


class Schedule(TrainerCallback):
    """Which order an epoch has, after which steps the model is validated and saved, and which checkpoints stay."""

    def __init__(self, plan: Plan, order: datasets.SampleOrder) -> None:
        self.plan, self.order = plan, order

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Draw the order of this epoch; the Trainer's own call does not reach it in a resumed epoch, whose first steps it skips."""
        self.order.set_epoch(state.global_step // self._steps_per_epoch(state))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> TrainerControl:
        """Ask for what is due; both are at the end of every epoch."""
        per_epoch = self._steps_per_epoch(state)
        control.should_evaluate = is_due(state.global_step, per_epoch, self.plan.evaluations_per_epoch)
        control.should_save = is_due(state.global_step, per_epoch, self.plan.saves_per_epoch)
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Once every process has written its part, the checkpoint counts; then those that are too many go."""
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            files.write_json(self.plan.out / PROGRESS, {"step": state.global_step, "of": state.max_steps, "unit": "step"})
            every = sorted((self.plan.out / CHECKPOINTS).glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
            for folder in every[: -self.plan.keep_checkpoints]:
                shutil.rmtree(folder)

    def _steps_per_epoch(self, state: TrainerState) -> int:
        return state.max_steps // self.plan.epochs


def is_due(step: int, per_epoch: int, times: int) -> bool:
    """Whether something that happens so many times per epoch, evenly and at its end, happens after this step (counted from 1)."""
    return step * times // per_epoch > (step - 1) * times // per_epoch


def newest_checkpoint(out: Path) -> Path | None:
    """The last checkpoint that was written whole, or None; a folder that a killed process left does not count."""
    if not (out / PROGRESS).is_file():
        return None
    return out / CHECKPOINTS / f"checkpoint-{files.read_json(out / PROGRESS)['step']}"


def export(trainer: Trainer, bundle: Llava, plan: Plan) -> None:
    """Write `model/` whole or not at all; adapters are written on their own and merged into the weights they were trained on.

    A projector that trained alone is written beside the model as well, as LLaVA's first stage leaves it.
    """
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # gathered from all processes
    if not trainer.is_world_process_zero():
        return
    draft = plan.out / f".{MODEL}"
    shutil.rmtree(draft, ignore_errors=True)
    unset_hf_deepspeed_config()  # or the models made here would be sharded
    if plan.method == "lora":
        adapters.save(trainer.model, state, plan.out / ADAPTER)
        start = llava.load(plan.model, dtype=_dtype(plan), quantize="none")
        model = adapters.merge(start.model, plan.out / ADAPTER)
    else:
        # NOTE: not trainer.model, which writes wrong names after it was loaded under ZeRO-3.
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(trainer.model.config, attn_implementation="sdpa")
        model.load_state_dict(state, assign=True)
        model.generation_config = trainer.model.generation_config
        if plan.method == "projector":
            checkpoints.write_projector(state, plan.out / checkpoints.PROJECTOR_FILE)
    llava.save(dataclasses.replace(bundle, model=model), draft)
    draft.replace(plan.out / MODEL)


def _dtype(plan: Plan) -> llava.Dtype:
    """bf16 weights only where ZeRO keeps an fp32 copy of them to add small steps to; else autocast computes in bf16."""
    return "bf16" if plan.precision == "bf16" and plan.deepspeed != "none" else "fp32"


def _check_processes(plan: Plan) -> None:
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if running != plan.processes:
        raise ConfigError(f"finetune.processes is {plan.processes}, {running} are running; start the program by torchrun with as many")


def main(arguments: list[str]) -> int:
    """Train by the plan in a JSON file; a refusal is one line, as the last of the log."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(max(1, runtime.threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    plan = None
    try:
        plan = training_plan.read_plan(Path(arguments[0]))
        train(plan)
    except KitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (OSError, RuntimeError) as error:
        if plan is None or shutil.disk_usage(plan.out).free > 2**20:
            raise
        sys.stderr.write(f"{files.disk_full(OSError(28, str(error)), plan.out)}\n")
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; threads of gloo that still run at the interpreter's own end would abort the process
