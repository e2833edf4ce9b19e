"""How well the tiny profile of a3r learns, and how long each part takes: `python -m tests.bench.bench_a3r_learning [SEED ...] [ablate]`.

Per seed: toy data, base weights, zero-shot completion of the vehicle captions, fine-tuning by open_clip's trainer, and mAP@10 (the
official denominator) of all test queries against the whole test gallery, before and after. Prints one line per seed and variant;
`ablate` adds seed 0 without augmentation and without padding. Settings are those of the tiny profile; SECTION.KEY=VALUE overrides one.
Seconds are wall and, in brackets, CPU seconds of this process and its children; nothing of the notebooks or the engine is in them.
"""

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lib import base_open_clip, config, files, runtime, tiny_base
from lib.base_open_clip import BaseRecipe
from lib.metrics import retrieval
from lib.submissions.a3r import candidates, features, labels, queries, ranking, tables, vocabulary
from lib.submissions.a3r.contrastive import Plan
from lib.submissions.a3r.settings import Settings
from lib.submissions.a3r.toy import write_toy_data

BATCH = 128


class Clock:
    """Wall and CPU seconds of named parts."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[float, float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block under that name."""
        wall, cpu = time.monotonic(), _cpu_seconds()
        yield
        self.parts[name] = (time.monotonic() - wall, _cpu_seconds() - cpu)

    def line(self) -> str:
        """All parts and their sum."""
        total = tuple(sum(pair[i] for pair in self.parts.values()) for i in (0, 1))
        return "  ".join(f"{name} {wall:.1f} ({cpu:.1f})" for name, (wall, cpu) in {**self.parts, "sum": total}.items())


def _cpu_seconds() -> float:
    uses = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def write_tables(root: Path, out: Path, base: Path, settings: Settings) -> None:
    """Write out/{train,val}_data.csv: vehicles completed zero-shot if the settings say so, then pedestrians."""
    encoder = features.load_encoder("base", base, model=None, padding="none")
    convention, known = settings.augmentation.convention, None
    for split in ("train", "val"):
        found = labels.read_labels(root / f"datasets/{split}/{split}_label.txt").labels
        vehicles, pedestrians = labels.split_labels(found)
        phrases = [labels.attribute_phrase(label, final_dot="corrected") for label in vehicles]
        known = known or vocabulary.derive_vocabulary(phrases)
        folder = f"data/datasets/{split}/{split}_images"
        if settings.augmentation.enabled:
            choices = [candidates.build_choices(label.caption, known, convention=convention) for label in vehicles]
            distinct = sorted({choice for own in choices for choice in own})
            row = {text: place for place, text in enumerate(distinct)}
            texts = features.encode_texts(encoder.bundle, distinct, batch=BATCH).numpy()
            names = [label.name for label in vehicles]
            images = features.encode_pictures(encoder, root / folder.removeprefix("data/"), names, batch=BATCH, workers=0).numpy()
            phrases = [own[candidates.choose(image, texts[[row[c] for c in own]])[0]] for image, own in zip(images, choices, strict=True)]
        rows = [tables.Row(f"{folder}/{label.name}", phrase) for label, phrase in zip(vehicles, phrases, strict=True)]
        tables.write_table(out / f"{split}_data.csv", tables.build_table(rows + tables.label_rows(pedestrians, folder)))


def score(root: Path, weights: Path, padding: str) -> dict[str, float | None]:
    """mAP@10 over all test queries, and of the vehicle and pedestrian queries alone, against the whole gallery."""
    encoder = features.load_encoder("model", weights, model=None, padding=padding)
    folder = root / "datasets/test/test_images"
    names = sorted(path.name for path in folder.iterdir())
    lines = vocabulary.read_queries(root / "datasets/test/test_text.txt")
    relevant = [frozenset(found) for found in json.loads(files.read_text(root / "toy_answers.json")).values()]
    kinds = [vocabulary.image_kind(next(iter(found))) for found in relevant]
    convention = {"vehicle": "strip", "pedestrian": "plain"}
    texts = [
        queries.encoded_text(line, convention=convention[kind], final_dot="corrected") for line, kind in zip(lines, kinds, strict=True)
    ]
    images = features.encode_pictures(encoder, folder, names, batch=BATCH, workers=0)
    order, _ = ranking.top_k(features.encode_texts(encoder.bundle, texts, batch=BATCH), images, 10, memory_bytes=2**28)
    found = retrieval.mean_average_precision([[names[i] for i in row] for row in order.tolist()], relevant, 10)
    return {"all": found.score, **{kind: value for kind, (value, _) in retrieval.mean_by_label(found.per_query, kinds).items()}}


def write_plan(folder: Path, out: Path, root: Path, base: Path, settings: Settings) -> Path:
    """Write the plan of the fine-tuning as the finetune stage does."""
    plan = Plan(
        **settings.finetune.model_dump(exclude={"processes", "soup", "soup_epochs"}),
        out=str(out),
        train_table=str(folder / "train_data.csv"),
        val_table=str(folder / "val_data.csv"),
        media_root=str(root),
        media_prefix="data",
        model=settings.model.name,
        architecture=settings.model.architecture,
        weights=str(base),
        device="cpu",
        seed=settings.seed,
        workers=0,
    )
    files.write_json(folder / "plan.json", plan.model_dump(mode="json"))
    return folder / "plan.json"


def learn(folder: Path, name: str, overrides: list[str]) -> None:
    """One seed of one variant: prints scores and seconds."""
    clock, settings = Clock(), config.resolve("a3r", profile="tiny", overrides=overrides).settings
    root, base, out = folder / f"toy-{name}", folder / "base", folder / f"run-{name}"
    with clock.part("toy"):
        write_toy_data(root, settings.seed, settings.data.toy)
    recipe = BaseRecipe(name=settings.model.name, architecture=settings.model.architecture, **settings.model.base.model_dump())
    with clock.part("base"):
        base_open_clip.ensure_base(base, recipe, progress=lambda done, total: None)
    with clock.part("augmentation"):
        write_tables(root, folder, base, settings)
    plan = write_plan(folder, out, root, base, settings)
    with clock.part("finetune"), (folder / "child.log").open("w") as log:
        subprocess.run([sys.executable, "-m", "lib.submissions.a3r.contrastive", str(plan)], check=True, stdout=log, stderr=log)
    with clock.part("infer"):
        after = score(root, out / "model", settings.infer.padding)
    before = score(root, base, settings.infer.padding)
    shown = "  ".join(f"{kind} {before[kind]:.3f} -> {after[kind]:.3f}" for kind in after)
    zero_shot = files.read_json(base / tiny_base.RECORD)["zero_shot"]
    print(f"{name:16} mAP@10 {shown} | base zero-shot {zero_shot} | seconds {clock.line()}", flush=True)


def main(arguments: list[str]) -> None:
    """Run the seeds named (default 0 to 4), all from the same base weights, as in the kit."""
    logging.disable(logging.INFO)
    torch.set_num_threads(runtime.threads())
    overrides = [argument for argument in arguments if "=" in argument]
    seeds = [int(argument) for argument in arguments if argument.isdigit()] or [0, 1, 2, 3, 4]
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            learn(Path(folder), f"seed {seed}", [*overrides, f"seed={seed}"])
        if "ablate" in arguments:
            learn(Path(folder), "no augmentation", [*overrides, "augmentation.enabled=false"])
            learn(Path(folder), "no padding", [*overrides, "finetune.padding=none", "infer.padding=none"])


if __name__ == "__main__":
    main(sys.argv[1:])
