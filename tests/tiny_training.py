"""A small world to train and ask in: pictures of one colour each, conversations that name it, a model, and the plan of a training."""

import json
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from lib import files, llava
from lib.conversation import Sample, Turn
from tests.tiny_llava import build_bundle

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (128, 128, 128)}
QUESTION = "Describe the vehicle."

RECIPE = {
    "template": "chatml_direct",
    "resize": "squash",
    "method": "blocks",
    "new_blocks": 1,
    "trained": "blocks_and_head",
    "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
    "batch_size": 4,
    "accumulation": 1,
    "processes": 1,
    "epochs": 2,
    "lr": 0.01,
    "projector_lr": None,
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "grad_clip_norm": 1.0,
    "max_length": 256,
    "group_by_length": True,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "deepspeed": "none",
    "attention": "sdpa",
    "saves_per_epoch": 2,
    "keep_checkpoints": 2,
    "evaluations_per_epoch": 1,
    "log_every": 1,
    "seed": 3,
    "workers": 0,
    "device": "cpu",
}


def write_pictures(media: Path, count: int) -> list[tuple[str, tuple[str, str]]]:
    """So many colours in turn, each with its two pictures: the names below the media root."""
    made = []
    for number in range(count):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        paths = tuple(f"{extent}/{number}.jpg" for extent in ("local", "global"))
        for path in paths:
            (media / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), tuple((value + number) % 256 for value in colour)).save(media / path)
        made.append((name, paths))
    return made


def samples(pictures: list[tuple[str, tuple[str, str]]]) -> list[Sample]:
    """One conversation per pair of pictures; longer and shorter answers take turns."""
    found = []
    for number, (name, paths) in enumerate(pictures):
        answer = f"The vehicle is {name}." + " It stands on a dry road." * (number % 3)
        found.append(Sample(f"s{number}", (Turn("user", f"<image>\n{QUESTION}"), Turn("assistant", answer)), paths))
    return found


def write_world(folder: Path, *, train: int = 16, val: int = 3) -> Path:
    """`model/`, `media/`, `train.jsonl` and `val.jsonl` in the folder, which is returned."""
    every = samples(write_pictures(folder / "media", train + val))
    files.write_jsonl(folder / "train.jsonl", map(asdict, every[:train]))
    files.write_jsonl(folder / "val.jsonl", map(asdict, every[train:]))
    llava.save(build_bundle(folder / "tokenizer"), folder / "model")
    return folder


def write_plan(world: Path, out: Path, **changes: object) -> Path:
    """The plan of a training in that world, with changes to RECIPE, as a JSON file in `out`."""
    places = {
        "out": out,
        "model": world / "model",
        "train": world / "train.jsonl",
        "val": world / "val.jsonl",
        "media_root": world / "media",
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(json.dumps({**RECIPE, **{name: str(path) for name, path in places.items()}, **changes}))
    return out / "plan.json"
