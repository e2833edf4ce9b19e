"""All that one supervised fine-tuning depends on, as the finetune stage writes it for `lib.training`: read and checked without torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lib import config, conversation
from lib.adapters import Lora
from lib.config import Section
from lib.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]

# What says where things lie or how fast they are made; all other keys decide about the weights.
PLACES = frozenset({"out", "model", "train", "val", "media_root", "workers", "device"})


class Recipe(Section):
    """How a LLaVA model is trained: the section `finetune` of a submission's settings."""

    method: Literal["blocks", "lora", "full", "projector"]
    trained: Literal["blocks_and_head", "blocks", "head"]  # of the expanded model; read by method blocks
    lora: Lora  # read by method lora
    batch_size: Positive  # per process
    accumulation: Positive
    processes: Positive
    epochs: Positive
    lr: Rate
    projector_lr: Rate | None  # None: as everything else
    warmup_ratio: Share
    weight_decay: Annotated[float, Field(ge=0)]
    beta1: Share
    beta2: Share
    eps: Rate
    grad_clip_norm: Rate
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


class Plan(Recipe):
    """One training: its recipe, what it starts from and where things lie. Names as in config.yaml."""

    out: Path  # the run folder; an interrupted training in it is continued
    model: Path  # the starting weights in Hugging Face layout
    train: Path  # samples, one JSON line each (lib.datasets.Sample)
    val: Path  # held-out samples for the validation loss
    media_root: Path  # what the samples' pictures are relative to
    template: str  # of lib.conversation
    resize: Literal["squash", "pad", "anyres"]
    new_blocks: Count  # inserted into the language model; read by method blocks
    seed: Count
    workers: Count
    device: Literal["cpu", "cuda"]

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimiser step over all processes."""
        return self.batch_size * self.accumulation * self.processes


def read_plan(path: Path) -> Plan:
    """The plan of a JSON file. Raises ConfigError naming the key that is missing, unknown or out of range, or values that clash."""
    plan = config.read_section(path, Plan)
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Raises ConfigError for values that do not go together."""
    if plan.template not in conversation.TEMPLATES:
        raise ConfigError(f"template {plan.template!r} is not known; there are: {', '.join(conversation.TEMPLATES)}")
    if plan.device == "cpu" and plan.attention != "sdpa":
        raise ConfigError(f"finetune.attention is {plan.attention}, which needs an NVIDIA GPU; on a CPU it must be sdpa")
    if plan.deepspeed != "none" and plan.processes == 1:
        raise ConfigError(
            f"finetune.deepspeed is {plan.deepspeed}, which shares a training among processes, and finetune.processes is 1; "
            "raise it, or set finetune.deepspeed to none"
        )


def params(plan: Plan) -> str:
    """The text of params.txt: `name: value` per line, sorted, no place of this machine."""
    values = plan.model_dump(mode="json", exclude=PLACES)
    return "".join(f"{name}: {values[name]}\n" for name in sorted(values))
