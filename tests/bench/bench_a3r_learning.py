"""How well the tiny profile of a3r learns, and how long each part takes: `python -m tests.bench.bench_a3r_learning [SEED ...]`.

Per seed: toy data, base weights, zero-shot completion of the vehicle captions, fine-tuning by open_clip's trainer, and mAP@10 (the
official denominator) of all test queries against the whole test gallery, before and after. Prints one line per seed and variant.
Seconds are wall and, in brackets, CPU seconds of this process and its children. KEY=VALUE arguments change a setting.
"""

import dataclasses
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

from lib import base_weights, files, runtime
from lib.base_weights import BaseRecipe
from lib.metrics import retrieval
from lib.submissions.a3r import candidates, features, labels, queries, ranking, tables, vocabulary
from lib.submissions.a3r.contrastive import Plan
from lib.submissions.a3r.toy import ToySizes, write_toy_data

SIZES = {
    "train_vehicles": 1400, "train_pedestrians": 1600, "val_vehicles": 60, "val_pedestrians": 80,
    "test_vehicles": 86, "test_pedestrians": 114, "brands": 8,
}  # fmt: skip
TOWERS = {
    "image_size": 64,
    "patch_size": 16,
    "image_width": 128,
    "image_layers": 3,
    "text_width": 64,
    "text_layers": 2,
    "embed_dim": 64,
    "head_width": 32,
}
BASE = {"steps": 450, "batch": 64, "base_lr": 1e-3, "warmup": 25, "weight_decay": 0.02}
FINETUNE = {
    "padding": "as_published", "loss": "clip", "batch_size": 64, "accum_freq": 1, "lr": 1e-3, "wd": 0.01, "beta1": 0.9, "beta2": 0.98,
    "eps": 1e-6, "warmup_steps": 20, "epochs": 6, "use_epoch": 5, "precision": "fp32", "device": "cpu", "grad_checkpointing": False,
    "grad_clip_norm": None, "int8": "none", "lock_image": False, "lock_text": False, "workers": 0, "save_frequency": 5, "val_frequency": 1,
    "log_every": 10,
}  # fmt: skip


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


def build_recipe(seed: int, towers: dict, base: dict) -> BaseRecipe:
    """The recipe of the base weights from the short names used here."""
    head = towers["head_width"]
    vision = {
        "image_size": towers["image_size"], "layers": towers["image_layers"], "width": towers["image_width"], "head_width": head,
        "patch_size": towers["patch_size"],
    }  # fmt: skip
    text = {
        "context_length": 77, "vocab_size": 49408, "width": towers["text_width"], "heads": towers["text_width"] // head,
        "layers": towers["text_layers"],
    }  # fmt: skip
    return BaseRecipe(
        name="ViT-tiny", architecture={"embed_dim": towers["embed_dim"], "vision_cfg": vision, "text_cfg": text}, seed=seed,
        steps=base["steps"], batch=base["batch"], lr=base["base_lr"], warmup=base["warmup"], weight_decay=base["weight_decay"],
    )  # fmt: skip


def write_tables(root: Path, out: Path, base: Path, *, augment: bool) -> float:
    """Write out/{train,val}_data.csv, vehicles completed by the `shipped` convention; returns the share of right types filled in."""
    encoder = features.load_encoder("base", base, model=None, padding="none")
    known, right = None, []
    for split in ("train", "val"):
        found = labels.read_labels(root / f"datasets/{split}/{split}_label.txt").labels
        vehicles, pedestrians = labels.split_labels(found)
        known = known or vocabulary.derive_vocabulary(labels.attribute_phrase(label, final_dot="corrected") for label in vehicles)
        folder = root / f"datasets/{split}/{split}_images"
        captions = [label.attribute.removesuffix(".") for label in vehicles]
        if augment:
            choices = [candidates.build_choices(label.caption, known, convention="shipped") for label in vehicles]
            distinct = sorted({choice for own in choices for choice in own})
            row = {text: place for place, text in enumerate(distinct)}
            texts = features.encode_texts(encoder.bundle, distinct, batch=256).numpy()
            images = features.encode_pictures(encoder, folder, [label.name for label in vehicles], batch=128, workers=0).numpy()
            captions = [own[candidates.choose(image, texts[[row[c] for c in own]])[0]] for image, own in zip(images, choices, strict=True)]
        rows = [
            tables.Row(f"data/datasets/{split}/{split}_images/{label.name}", text) for label, text in zip(vehicles, captions, strict=True)
        ]
        rows += tables.label_rows(pedestrians, f"data/datasets/{split}/{split}_images")
        tables.write_table(out / f"{split}_data.csv", tables.build_table(rows))
    return float(len(right))


def score(root: Path, weights: Path, padding: str) -> dict[str, float]:
    """mAP@10 over all test queries, and of the vehicle and pedestrian queries alone, against the whole gallery."""
    encoder = features.load_encoder("model", weights, model=None, padding=padding)
    folder = root / "datasets/test/test_images"
    names = sorted(path.name for path in folder.iterdir())
    lines = vocabulary.read_queries(root / "datasets/test/test_text.txt")
    relevant = [frozenset(found) for found in json.loads((root / "toy_answers.json").read_text()).values()]
    is_vehicle = [next(iter(found)).startswith("vehicle") for found in relevant]
    texts = [
        queries.encoded_text(line, convention="strip" if vehicle else "plain", final_dot="corrected")
        for line, vehicle in zip(lines, is_vehicle, strict=True)
    ]
    images = features.encode_pictures(encoder, folder, names, batch=128, workers=0)
    order, _ = ranking.top_k(features.encode_texts(encoder.bundle, texts, batch=256), images, 10, memory_bytes=2**28)
    found = retrieval.mean_average_precision([[names[i] for i in row] for row in order.tolist()], relevant, 10)
    means = retrieval.mean_by_label(found.per_query, ["vehicle" if vehicle else "pedestrian" for vehicle in is_vehicle])
    return {"all": found.score, **{kind: value for kind, (value, _) in means.items()}}


def learn(folder: Path, seed: int, settings: dict, *, augment: bool = True, name: str = "full") -> None:
    """One seed of one variant: prints scores and seconds."""
    clock, pick = Clock(), lambda group: {key: settings.get(key, value) for key, value in group.items()}
    root, finetune = folder / f"toy-{seed}", pick(FINETUNE)
    with clock.part("toy"):
        write_toy_data(root, seed, ToySizes(**pick(SIZES)))
    recipe = build_recipe(settings.get("base_seed", seed), pick(TOWERS), pick(BASE))
    base = folder / f"base-{files.digest(dataclasses.asdict(recipe))[:12]}"
    with clock.part("base"):
        base_weights.ensure_base(base, recipe, progress=lambda done, total: None)
    with clock.part("augment"):
        write_tables(root, folder, base, augment=augment)
    out = folder / f"run-{name}-{seed}"
    plan = Plan(
        out=str(out), train_table=str(folder / "train_data.csv"), val_table=str(folder / "val_data.csv"), media_root=str(root), media_prefix="data",
        model=recipe.name, architecture=recipe.architecture, weights=str(base), seed=seed, **finetune,
    )  # fmt: skip
    files.write_json(folder / "plan.json", plan.model_dump(mode="json"))
    with clock.part("finetune"):
        log = (folder / "child.log").open("w")
        subprocess.run(
            [sys.executable, "-m", "lib.submissions.a3r.contrastive", str(folder / "plan.json")],
            check=True,
            stdout=log,
            stderr=log,
        )
    with clock.part("infer"):
        after = score(root, out / "model", finetune["padding"])
    before = score(root, base, finetune["padding"])
    zero_shot = files.read_json(base / "record.json")["zero_shot"]
    shown = "  ".join(f"{kind} {before[kind]:.3f} -> {after[kind]:.3f}" for kind in after)
    print(f"seed {seed} {name:12} mAP@10 {shown} | base zero-shot {zero_shot} | seconds {clock.line()}", flush=True)


def main(arguments: list[str]) -> None:
    """Run the seeds named (default 0 to 4); `ablate` adds seed 0 without augmentation and without padding."""
    logging.disable(logging.INFO)
    torch.set_num_threads(runtime.threads())
    settings = {key: json.loads(value) for key, value in (argument.split("=", 1) for argument in arguments if "=" in argument)}
    seeds = [int(argument) for argument in arguments if argument.isdigit()] or [0, 1, 2, 3, 4]
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            learn(Path(folder), seed, settings)
        if "ablate" in arguments:
            learn(Path(folder), 0, settings, augment=False, name="no-augment")
            learn(Path(folder), 0, {**settings, "padding": "none"}, name="no-padding")


if __name__ == "__main__":
    main(sys.argv[1:])
