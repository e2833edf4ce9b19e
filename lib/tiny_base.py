"""What the programs that train tiny base weights share: when a folder counts, one training for all who need it, steps in fixed columns."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lib import files, runtime

Recipe = TypeVar("Recipe")
Progress = Callable[[int, int], None]

RECORD = "record.json"
LOG_STEPS = 25


def ensure(folder: Path, recipe: Recipe, train: Callable[[], dict[str, Any]]) -> Path:
    """The folder with the base weights of this recipe (a dataclass), made now by `train` unless it is complete.

    `train` writes the weights into the folder and returns what the record says of them beside recipe, seconds and digests. Two
    processes that need the weights at once train once; what an interrupted training left is thrown away.
    """
    with files.lock(folder.with_name(f".{folder.name}.training")):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        facts = train()
        record = {
            "recipe": dataclasses.asdict(recipe),
            **facts,
            "seconds": round(time.monotonic() - began, 1),
            "files": {path.name: files.sha256_file(path) for path in files.list_files(folder)},
        }
        files.write_json(folder / RECORD, record)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether the folder has a record and its files are those the record names."""
    if not (folder / RECORD).is_file():
        return False
    known = files.read_json(folder / RECORD)["files"]
    return all((folder / name).is_file() and files.sha256_file(folder / name) == digest for name, digest in known.items())


def run_program(arguments: list[str], kind: type[Recipe], ensure_base: Callable[..., Path]) -> None:
    """Train in a process of its own: RECIPE.json FOLDER; what it prints is its log."""
    import torch

    runtime.die_with_parent()
    torch.set_num_threads(runtime.threads())
    recipe = kind(**json.loads(files.read_text(Path(arguments[0]))))
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        if done % LOG_STEPS == 0 or done == total:
            pace = (time.monotonic() - began) / done
            line = f"step {done:05d}/{total:05d} ({done / total:.0%}) | {pace:.2f} s/step | eta {pace * (total - done) / 60:.1f} min"
            print(line, flush=True)  # this program's output is its log

    ensure_base(Path(arguments[1]), recipe, progress=report)
