"""The journal of a training: one JSON line per logged step and per validation, read back as curves while it runs and afterwards.

`Trainer`-based trainings write it; TensorBoard holds the same numbers for people. A resumed training appends: a step that comes again
takes back itself and all that was written after it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from lib import files
from lib.curves import FINISHED, STOPPED, RunCurves, TrainPoint, Validation, read_run_folder
from lib.errors import MissingInput

JOURNAL = "training.jsonl"
TAIL_BYTES = 2**13


def append(folder: Path, row: Mapping[str, object]) -> None:
    """Add one line; what a killed writer left of a line is removed first, or the two would be one that nobody can read."""
    path = folder / JOURNAL
    files.cut_last_line(path)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def read(folder: Path) -> list[dict]:
    """The lines that count, in the order of their steps. Raises MissingInput if there is no journal."""
    path = folder / JOURNAL
    if not path.is_file():
        raise MissingInput(f"{path} is not there; it is written by the training of 04-finetune")
    kept: list[dict] = []
    for row in filter(None, map(_parsed, files.read_text(path).splitlines())):
        again = (row["step"], row["kind"])
        if kept and again <= (kept[-1]["step"], kept[-1]["kind"]):
            kept = [earlier for earlier in kept if (earlier["step"], earlier["kind"]) < again]
        kept.append(row)
    return kept


def last_step(folder: Path) -> dict | None:
    """The newest training step, or None before the first; reads the end of the file only."""
    path = folder / JOURNAL
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    return next((row for row in map(_parsed, reversed(lines)) if row is not None and row["kind"] == "train"), None)


def read_training(folder: Path) -> RunCurves:
    """The curves of whatever training the folder holds: one with a journal, or one in the layout of open_clip."""
    return curves(folder) if (folder / JOURNAL).is_file() else read_run_folder(folder)


def curves(folder: Path) -> RunCurves:
    """The journal as curves: training points by step, validations by the epochs that were done."""
    rows = read(folder)
    steps = [row for row in rows if row["kind"] == "train"]
    checks = [row for row in rows if row["kind"] == "val"]
    planned, per_epoch = rows[0]["of"], rows[0]["per_epoch"]
    points = [
        TrainPoint(row["step"] - 1, int(row["epoch"]), row["loss"], lr=row["lr"], samples_per_second=row["samples_per_second"])
        for row in steps
    ]
    validations = [Validation(row["step"] / per_epoch, row["metrics"], JOURNAL) for row in checks]
    done = rows[-1]["step"]
    evidence = f"{done} of {planned} planned steps done"
    return RunCurves(
        folder.name,
        {"steps": str(planned)},
        tuple(points),
        tuple(validations),
        FINISHED if done >= planned else STOPPED,
        evidence,
        steps_per_epoch=per_epoch,
    )


def _parsed(line: str) -> dict | None:
    """The line's content, or None for one that was cut off."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "kind" in row else None
