"""03 where a paper changes nothing about the model: the base weights are handed on, and a digest proves it.

A submission with model surgery has a `block_expansion.py` of its own; this module has the same verbs.
"""

from dataclasses import dataclass
from pathlib import Path

from lib import files, paths
from lib.config import StageSettings
from lib.runs import Run

READS = ("base",)
SETTINGS = ("model",)

WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Base:
    """The base weights as files: name of the model, folder, and sha256 of each file."""

    name: str
    folder: Path
    digests: dict[str, str]


def load_base(cfg: StageSettings, run: Run) -> Base:
    """The base weights, read once from end to end for their digests; no model is built."""
    found = [path for path in files.list_files(run.base) if path.suffix in WEIGHTS]
    return Base(cfg.model.name, run.base, {path.name: files.sha256_file(path) for path in found})


def plan(cfg: StageSettings) -> list[dict]:
    """The blocks to insert: none."""
    return []


def expand(base: Base, inserted: list[dict], cfg: StageSettings, run: Run) -> Base:
    """The same base."""
    return base


def prove(before: Base, after: Base) -> dict:
    """That nothing changed: the digests of the files as they lie now against those read first."""
    now = {name: files.sha256_file(after.folder / name) for name in after.digests}
    return {"model": after.name, "new blocks": 0, "files": len(now), "identical": now == before.digests, "sha256": now}


def save_model(base: Base, run: Run) -> list[str]:
    """Write which weights the next stage starts from; the files themselves stay where they are."""
    files.write_json(run.out / "base.json", {"model": base.name, "folder": paths.relative(base.folder), "sha256": base.digests})
    return ["base.json"]


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Nothing beside the proof."""
    return []
