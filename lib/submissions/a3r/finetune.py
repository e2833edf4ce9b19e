"""04 of a3r: contrastive fine-tuning of both towers by open_clip's own trainer, as a child process (specs/a3r.md section 4).

The published checkpoint is an early stop: the schedule is laid out for `epochs`, training ends after `use_epoch`. A soup of
checkpoints, which the authors tried and did not submit, is an option.
"""

import contextlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from lib import curves, files, launch, runtime
from lib.config import StageSettings
from lib.curves import RunCurves
from lib.errors import ConfigError, DataError
from lib.launch import Step
from lib.runs import Run
from lib.submissions.a3r import schedule, tables
from lib.submissions.a3r.augmentation import base_weights
from lib.submissions.a3r.settings import Finetune
from lib.submissions.a3r.tables import Row, Table

READS = ("data", "base", "augmentation")
SETTINGS = ("model",)

PROGRAM = "lib.submissions.a3r.contrastive"
SCHEDULE_POINTS = 400

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pairs:
    """The training pairs, and what they make of the schedule."""

    table: Path
    rows: tuple[Row, ...]
    steps_per_epoch: int
    steps: int
    schedule_steps: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


def build_dataset(cfg: StageSettings, run: Run) -> Pairs:
    """The merged training table that 02 wrote. Raises ConfigError if it does not fill one batch."""
    path = run.of("augmentation") / "train_data.csv"
    found: Table = tables.read_table(path)
    recipe = cfg.finetune
    per_step = recipe.batch_size * recipe.accum_freq * recipe.processes
    if len(found.rows) < per_step:
        raise ConfigError(f"finetune.batch_size: {per_step} pairs a step, the table has {len(found.rows)}; make the batch smaller")
    steps = len(found.rows) // per_step
    return Pairs(path, found.rows, steps, steps * recipe.use_epoch, steps * recipe.epochs)


def show_sample(dataset: Pairs, index: int, cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """One training pair: its caption, and the picture as published and with each kind of padding."""
    from lib import plots
    from lib.submissions.a3r import pictures

    row = dataset[index]
    picture = pictures.read_picture(run.data / row.filepath.removeprefix("data/"))
    padded = {name: pictures.pad_to_square(picture, padding=name) for name in ("none", "as_published", "exact")}
    return [(f"“{row.title}”", plots.padding_side_by_side(padded))]


def count_samples(dataset: Pairs) -> dict:
    """Pairs, steps per epoch, steps until the used checkpoint, and steps of the whole schedule."""
    names = {"steps per epoch": dataset.steps_per_epoch, "steps": dataset.steps, "steps of the schedule": dataset.schedule_steps}
    return {"pairs": len(dataset), **names}


def find_odd(dataset: Pairs) -> int:
    """The index of the longest caption: a pedestrian's two sentences against a vehicle's three words."""
    return max(range(len(dataset)), key=lambda index: len(dataset[index].title))


def build_model(cfg: StageSettings, run: Run) -> list[tuple[str, int]]:
    """(name, number of values) of every parameter, from the architecture alone: no weights are loaded into this kernel."""
    import open_clip
    import torch

    from lib import models

    extra = models.SIGLIP_START if cfg.finetune.loss == "siglip" else {}
    with torch.device("meta"):
        clip = open_clip.CLIP(**(cfg.model.architecture or models.architecture(cfg.model.name)), **extra)
    return [(name, parameter.numel()) for name, parameter in clip.named_parameters()]


def trainable(model: list[tuple[str, int]], cfg: StageSettings) -> list[dict]:
    """Per tower: parameters, and how many of them train (all, unless a tower is locked)."""
    recipe = cfg.finetune
    towers = {"image tower": 0, "text tower and scale": 0}
    for name, count in model:
        towers["image tower" if name.startswith("visual.") else "text tower and scale"] += count
    locked = {"image tower": recipe.lock_image, "text tower and scale": recipe.lock_text}
    rows = [{"part": name, "parameters": count, "trained": 0 if locked[name] else count} for name, count in towers.items()]
    return [*rows, {"part": "both", "parameters": sum(towers.values()), "trained": sum(row["trained"] for row in rows)}]


def guessing_loss(cfg: StageSettings) -> float:
    """The loss (nats) of guessing blindly among the N pairs of one step: ln N; SigLIP's, at the best constant guess, is a little higher."""
    recipe = cfg.finetune
    pairs = recipe.batch_size * recipe.accum_freq * recipe.processes
    # SigLIP asks about each of the N captions by itself, and one in N is right.
    others = (pairs - 1) * math.log(pairs / (pairs - 1)) if recipe.loss == "siglip" and pairs > 1 else 0.0
    return math.log(pairs) + others


def planned_schedule(dataset: Pairs, cfg: StageSettings) -> list[tuple[int, float]]:
    """(step, learning rate) over the whole schedule, thinned for drawing."""
    stride = max(1, dataset.schedule_steps // SCHEDULE_POINTS)
    recipe = cfg.finetune
    rate = {"peak": recipe.lr, "warmup": recipe.warmup_steps, "total": dataset.schedule_steps}
    return [(step, schedule.learning_rate(step, **rate)) for step in range(0, dataset.schedule_steps, stride)]


def train(dataset: Pairs, cfg: StageSettings, run: Run) -> RunCurves:
    """Train in a child process (torchrun with more than one); what an earlier attempt left is continued bit for bit.

    Returns the curves read back from the run folder the trainer wrote. Raises StageFailed with the end of its log.
    """
    plan = run.out / "checkpoints" / "plan.json"
    files.write_json(plan, training_plan(dataset, cfg, run))
    command = launch.command(PROGRAM, [str(plan)], processes=cfg.finetune.processes)
    launch.run(command, run.out / "train.log", watch=lambda: _watch(run.out, dataset, cfg.finetune), label="training")
    if cfg.finetune.soup != "none":
        cook_soup(cfg, run)
    return curves.read_run_folder(run.out)


def validation_rows(training: RunCurves) -> list[dict]:
    """One row per validated epoch: its loss and recalls."""
    names = ("clip_val_loss", "text_to_image_R@1", "text_to_image_R@5", "text_to_image_R@10", "text_to_image_mean_rank")
    return [{"epoch": found.epoch, **{name: found.metrics.get(name) for name in names}} for found in training.validations]


def training_plan(dataset: Pairs, cfg: StageSettings, run: Run) -> dict:
    """The plan of `contrastive`: the recipe of the settings, and where things lie."""
    recipe = cfg.finetune.model_dump(exclude={"processes", "soup", "soup_epochs"})
    return {
        **recipe,
        "out": str(run.out),
        "train_table": str(dataset.table),
        "val_table": str(dataset.table.with_name("val_data.csv")),
        "media_root": str(run.data),
        "media_prefix": "data",
        "model": cfg.model.name,
        "architecture": cfg.model.architecture,
        "weights": str(base_weights(cfg, run.base)),
        "device": runtime.accelerator(),
        "seed": cfg.seed,
        "workers": cfg.machine.workers,
    }


def cook_soup(cfg: StageSettings, run: Run) -> dict:
    """Average the checkpoints of `soup_epochs` into the exported weights, by all or greedily by text-to-image R@10 on val."""
    from lib import models
    from lib.submissions.a3r import soup

    states = [models.read_state(run.out / f"checkpoints/epoch_{epoch}.pt") for epoch in cfg.finetune.soup_epochs]
    bundle = models.load_open_clip(run.out / "model")
    told: dict = {"epochs": cfg.finetune.soup_epochs, "kind": cfg.finetune.soup}
    if cfg.finetune.soup == "uniform":
        state = soup.uniform_soup(states)
    else:
        found = soup.greedy_soup(states, lambda state: _validation_recall(bundle, state, cfg, run), quirk="corrected")
        state = found.state
        told |= {"members": [cfg.finetune.soup_epochs[place] for place in found.members], "text_to_image_R@10": found.metric}
    models.load_state(bundle.model, dict(state), f"soup of epochs {cfg.finetune.soup_epochs}", cfg.model.name)
    models.save_weights(bundle, run.out / "model")
    files.write_json(run.out / "soup.json", told)
    return told


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """The original's curves beside ours, and what became of its seven published runs."""
    from lib import plots, show
    from lib.submissions.a3r import original

    ours = curves.read_run_folder(run.out)
    return [
        (
            "Training loss and validation recall of the published best run and of this run:",
            plots.curves(original.published_curves(), ours),
        ),
        ("The seven published runs and how far each came:", show.table(published_rows(original.read_published_runs()["runs"]))),
    ]


def published_rows(runs: list[dict]) -> list[dict]:
    """The published runs by the day and time in their folder's name: model, what became of each, its last text-to-image R@10."""
    return [
        {
            "run": run["folder"].removeprefix("logs/").partition("-model_")[0],
            "model": run["model"],
            "state": run["state"],
            "evidence": run["evidence"],
            "validations": run["validations"],
            "last R@10": (run["last_validation"] or {}).get("text_to_image_R@10"),
        }
        for run in runs
    ]


def _validation_recall(bundle: object, state: dict, cfg: StageSettings, run: Run) -> float:
    """Text-to-image R@10 on the validation table with these weights: what a greedy soup climbs."""
    from lib import models
    from lib.metrics import retrieval
    from lib.submissions.a3r import features
    from lib.submissions.a3r.data_prep import picture_folder

    models.load_state(bundle.model, dict(state), "soup", cfg.model.name)
    encoder = features.Encoder("soup", "", None, cfg.finetune.padding, bundle)
    rows = tables.read_table(run.of("augmentation") / "val_data.csv").rows
    names = [Path(row.filepath).name for row in rows]
    images = features.encode_pictures(
        encoder, picture_folder(run.data, "val"), names, batch=cfg.machine.image_batch, workers=cfg.machine.workers
    )
    texts = features.encode_texts(bundle, [row.title for row in rows], batch=cfg.machine.text_batch)
    units = [(part / part.norm(dim=-1, keepdim=True)).numpy() for part in (images, texts)]
    return retrieval.retrieval_scores(*units)["text_to_image_R@10"]


def _watch(out: Path, dataset: Pairs, recipe: Finetune) -> Step | None:
    """The trainer's newest step with loss and learning rate; notes the finished epochs for `plan` on the way."""
    results = out / "checkpoints" / "results.jsonl"
    done = sum(1 for _ in results.open()) if results.is_file() else 0
    noted = out / "progress.json"
    if done and (not noted.is_file() or files.read_json(noted)["step"] != done):
        files.write_json(noted, {"step": done, "of": recipe.use_epoch, "unit": "epoch"})
    last = _last_step(out / "out.log")
    if last is None:
        return None
    step = last["epoch"] * dataset.steps_per_epoch + last["samples"] // (recipe.batch_size * recipe.accum_freq * recipe.processes)
    rate = schedule.learning_rate(step - 1, peak=recipe.lr, warmup=recipe.warmup_steps, total=dataset.schedule_steps)
    return Step(step, dataset.steps, f"loss {last['loss']:.3f} | lr {rate:.1e} | {last['batch_time']:.2f} s/step")


def _last_step(log_file: Path) -> dict | None:
    """The fields of the newest line of the trainer's log that tells of a step."""
    for line in reversed(launch.tail(log_file).splitlines() if log_file.is_file() else []):
        with contextlib.suppress(DataError):  # a line that is being written, or that a kill cut off
            found = curves.read_log_line(line)
            if found is not None and found["kind"] == "train":
                return found
    return None
