"""What the finetune stages of LLaVA models share: samples and plan written for `lib.training`, its process, schedule and tables."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lib import adapters, blocks, files, journal, launch, runtime
from lib.config import StageSettings
from lib.conversation import Sample
from lib.curves import RunCurves
from lib.errors import ConfigError
from lib.launch import Step
from lib.training_plan import Recipe

PROGRAM = "lib.training"
TRAIN, VAL = "train.jsonl", "val.jsonl"
SCHEDULE_POINTS = 400
SHOWN = ("step", "loss", "lr", "grad_norm", "samples_per_second", "memory_mib")
SHOWN_STEPS = 8


@dataclass(frozen=True)
class Start:
    """What a training starts from, and how samples are shown to the model: weights, root of the pictures, chat template, resizing.

    `new_blocks` were inserted into the language model.
    """

    model: Path
    media_root: Path
    template: str
    resize: str
    new_blocks: int = 0


def steps_per_epoch(samples: int, recipe: Recipe) -> int:
    """Optimiser steps over so many samples. Raises ConfigError if they do not fill one."""
    per_step = recipe.batch_size * recipe.accumulation * recipe.processes
    if samples < per_step:
        raise ConfigError(f"finetune.batch_size: {per_step} samples a step, there are {samples}; make the batch smaller")
    return math.ceil(samples / per_step)


def trainable(model: Mapping[str, tuple[int, ...]], recipe: Recipe, *, new_blocks: int = 0) -> list[dict]:
    """Per part of a model given by the shapes of its weights: parameters, and how many train; adapters stand in a row of their own."""
    sizes = {name: math.prod(shape) for name, shape in model.items()}
    expansion = blocks.plan_expansion(blocks.count_layers(sizes) - new_blocks, new_blocks)
    trained = {
        "blocks": blocks.trainable_names(sizes, expansion, blocks.TRAINED[recipe.trained]),
        "lora": [name for name in sizes if adapters.PROJECTOR in name],
        "full": [name for name in sizes if adapters.TOWER not in name],
        "projector": [name for name in sizes if adapters.PROJECTOR in name],
    }[recipe.method]
    rows = [asdict(part) for part in blocks.count_parts(sizes, trained, expansion)]
    if recipe.method == "lora":
        values = adapters.count_values(model, recipe.lora.r)
        rows.append({"part": f"adapters of rank {recipe.lora.r}", "parameters": values, "trained": values})
    return [*rows, {"part": "all", **{name: sum(row[name] for row in rows) for name in ("parameters", "trained")}}]


def guessing_loss(cfg: StageSettings) -> float:
    """The loss (nats) of guessing every token of the vocabulary alike: ln V."""
    from lib import llava

    architecture = cfg.model.architecture or llava.ARCHITECTURES[cfg.model.name]
    return math.log(architecture["text"]["vocab_size"])


def learning_rates(steps: int, recipe: Recipe) -> list[tuple[int, float]]:
    """(step, learning rate) over the whole training, thinned for drawing: a linear warm-up, then half a cosine."""
    warmup = math.ceil(recipe.warmup_ratio * steps)
    stride = max(1, steps // SCHEDULE_POINTS)

    def rate(step: int) -> float:
        if step < warmup:
            return recipe.lr * step / warmup
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return [(step, rate(step)) for step in range(0, steps + 1, stride)]


def train(cfg: StageSettings, start: Start, samples: Iterable[Sample], held_out: Iterable[Sample], out: Path) -> RunCurves:
    """Train in a child process (torchrun with more than one); what an earlier attempt left is continued.

    Returns the curves of its journal. Raises StageFailed with the end of its log.
    """
    files.write_jsonl(out / TRAIN, map(asdict, samples))
    files.write_jsonl(out / VAL, map(asdict, held_out))
    plan = out / "checkpoints" / "plan.json"
    files.write_json(plan, training_plan(cfg, start, out))
    command = launch.command(PROGRAM, [str(plan)], processes=cfg.finetune.processes)
    launch.run(command, out / "train.log", watch=lambda: watch(out), label="training")
    return journal.curves(out)


def training_plan(cfg: StageSettings, start: Start, out: Path) -> dict:
    """The plan of `lib.training`: the recipe of the settings, and where things lie."""
    return {
        **cfg.finetune.model_dump(mode="json"),
        "out": str(out),
        "model": str(start.model),
        "train": str(out / TRAIN),
        "val": str(out / VAL),
        "media_root": str(start.media_root),
        "template": start.template,
        "resize": start.resize,
        "new_blocks": start.new_blocks,
        "seed": cfg.seed,
        "workers": cfg.machine.workers,
        "device": runtime.accelerator(),
    }


def watch(out: Path) -> Step | None:
    """The newest step of the journal with its loss, rate and pace."""
    row = journal.last_step(out)
    if row is None:
        return None
    return Step(row["step"], row["of"], f"loss {row['loss']:.3f} | lr {row['lr']:.1e} | {row['samples_per_second']:.1f} samples/s")


def validation_rows(training: RunCurves) -> list[dict]:
    """One row per validation: epochs done, loss per token on held-out samples."""
    return [{"epochs": round(found.epoch, 2), **found.metrics} for found in training.validations]


def logged_steps(out: Path) -> tuple[str, object]:
    """A heading, and speed, memory and gradient at some steps of the training."""
    from lib import show

    rows = [row for row in journal.read(out) if row["kind"] == "train"]
    chosen = rows[:: max(1, len(rows) // SHOWN_STEPS)]
    text = "Some logged steps: loss (nats), gradient norm, speed, peak memory (MiB):"
    return text, show.table([{name: row[name] for name in SHOWN} for row in chosen])
