"""The small chains of the tests above the unit level: overrides under which every stage takes seconds, and ways to run them.

A stage is run as a person runs it, by the command line, or in this process from the code cells of its notebook, where torch is
loaded once for all tests.
"""

import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("data_prep", "augmentation", "block_expansion", "finetune", "infer", "evaluate", "quick_review")
NUMBERED = tuple(f"{number:02d}-{stage.replace('_', '-')}" for number, stage in enumerate(STAGES, start=1))

SMALL = {
    # Few pictures and steps, yet enough labels for a vocabulary, ten pictures of each class to rank, and two checkpoints for a soup.
    "a3r": {
        "data.toy.train_vehicles": "48",
        "data.toy.train_pedestrians": "24",
        "data.toy.val_vehicles": "12",
        "data.toy.val_pedestrians": "12",
        "data.toy.test_vehicles": "12",
        "data.toy.test_pedestrians": "12",
        "data.toy.brands": "4",
        "model.base.steps": "8",
        "model.base.batch": "16",
        "model.base.warmup": "2",
        "augmentation.batch_size": "8",
        "finetune.epochs": "2",
        "finetune.use_epoch": "2",
        "finetune.save_frequency": "1",
        "finetune.batch_size": "8",
        "finetune.lr": "0.0008",
        "finetune.warmup_steps": "2",
        "finetune.log_every": "2",
        "infer.candidates": "12",
    },
    # A few scenarios of each data set, a model deep enough for blocks to stand between its layers that has learned nothing, the
    # published defects and order of questions, and answers that are soon cut off.
    "cityllava": {
        "data.toy.train_wts": "6",
        "data.toy.train_bdd": "4",
        "data.toy.val_wts": "4",
        "data.toy.val_bdd": "3",
        "data.toy.test_wts": "4",
        "data.toy.test_bdd": "2",
        "model.base.scenes": "40",
        "model.base.tower_steps": "4",
        "model.base.base_steps": "4",
        "model.architecture.text.num_hidden_layers": "4",
        "augmentation.quirks.ego_wording": "as_published",
        "finetune.batch_size": "16",
        "finetune.lr": "0.001",
        "finetune.log_every": "2",
        "infer.order": "vehicle_first",
        "infer.quirks.stage_line": "as_published",
        "infer.max_new_tokens": "12",
    },
    # Two rounds, which share a base that has learned nothing: a mix of a sample or two per folder and kind of oddity, bad cases of every
    # type, a pool with its odd pictures, and as many queries as show every turn. Where one round is enough, rounds.last=0 leaves it at
    # that.
    "dataengine": {
        "data.toy.mix": "36",
        "data.toy.texts": "6",
        "data.toy.captions": "20",
        "data.toy.pool": "60",
        "data.toy.val": "10",
        "data.toy.test": "6",
        "data.toy.bench": "6",
        "model.base.scenes": "40",
        "model.base.tower_steps": "4",
        "model.base.base_steps": "4",
        "augmentation.queries": "24",
        "augmentation.top_k": "10",
        "finetune.batch_size": "16",
        "finetune.evaluations_per_epoch": "1",
        "finetune.log_every": "1",
        "infer.max_new_tokens": "4",
        "machine.workers": "0",
    },
}

VEHICLES, PEDESTRIANS = int(SMALL["a3r"]["data.toy.train_vehicles"]), int(SMALL["a3r"]["data.toy.train_pedestrians"])
STEPS = (VEHICLES + PEDESTRIANS) // int(SMALL["a3r"]["finetune.batch_size"])  # of one epoch
EPOCHS = int(SMALL["a3r"]["finetune.epochs"])
PEAK, WARMUP = float(SMALL["a3r"]["finetune.lr"]), int(SMALL["a3r"]["finetune.warmup_steps"])  # of the learning rate


@dataclass(frozen=True)
class SmallRun:
    """A finished run of the small chain: its home (data/, log/, best-result-review/), its folder, what the command printed."""

    home: Path
    folder: Path
    output: str
    seconds: float
    submission: str = "a3r"
    before: "SmallRun | None" = None  # the run of the round before

    def stage(self, name: str) -> Path:
        """The folder of a stage's results."""
        return (self.folder / NUMBERED[STAGES.index(name)]).resolve()

    @property
    def data(self) -> Path:
        """The root of its toy data set."""
        (found,) = (self.home / "data" / self.submission).glob("toy-*")
        return found


def overrides(changes: Mapping[str, str] | None = None, *, of: str = "a3r") -> list[str]:
    """The overrides of a submission's small chain with these changes, as KEY=VALUE."""
    return [f"{key}={value}" for key, value in {**SMALL[of], **(changes or {})}.items()]


def one_line(changes: Mapping[str, str] | None = None, *, of: str = "a3r") -> str:
    """The same as the value of a notebook's OVERRIDES."""
    return " ".join(f"'{part}'" for part in overrides(changes, of=of))


def sets(changes: Mapping[str, str] | None = None, *, of: str = "a3r") -> list[str]:
    """The same as options of the command line."""
    return [part for one in overrides(changes, of=of) for part in ("--set", one)]


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a process sees that works in this home."""
    folders = {"PODIUM_DATA": home / "data", "PODIUM_LOG": home / "log", "PODIUM_BEST": home / "best-result-review"}
    return {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(folder) for name, folder in folders.items()}, **more}


def kit(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m lib ARGUMENTS` in this home, run to its end."""
    command = [sys.executable, "-m", "lib", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=600, check=False)


def run_chain(home: Path, *options: str, changes: Mapping[str, str] | None = None, of: str = "a3r") -> SmallRun:
    """`python -m lib run SUBMISSION OPTIONS` with the small overrides, which has to succeed.

    Of several rounds the last one's run is returned, which knows those before it; each has the part of the output that is about it.
    """
    began = time.monotonic()
    answer = kit(home, "run", of, *options, *sets(changes, of=of))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    run, seconds = None, time.monotonic() - began
    for part in re.split(rf"^(?={of}: variant )", answer.stdout, flags=re.MULTILINE)[1:]:
        (folder,) = re.findall(r"stages up to date in [\d.]+ s, run (.+)$", part, flags=re.MULTILINE)
        run = SmallRun(home, ROOT / folder, part, seconds, of, run)
    assert run is not None, answer.stdout
    return run


@functools.cache
def finished_run(home: Path, of: str) -> SmallRun:
    """The small chain from an empty home, run once per test session whoever asks."""
    return run_chain(home, of=of)


def plain(text: str, run: SmallRun) -> str:
    """The text without what differs from machine to machine: HOME, DATA, RUN and KEY stand for home, data set, run and digest."""
    text = text.replace(str(run.data), "DATA").replace(str(run.home), "HOME").replace(run.folder.name, "RUN")
    text = text if run.before is None else text.replace(run.before.folder.name, "BEFORE")
    return re.sub(r"\b[0-9a-f]{16}\b|(?<=open_clip-)[0-9a-f]{12}\b|(?<=llava-)[0-9a-f]{12}\b", "KEY", text)


def refusal(run: SmallRun, *arguments: str) -> str:
    """The one line that a command ends in, which has to end with status 1."""
    answer = kit(run.home, *arguments)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (line,) = answer.stderr.splitlines()
    assert line.startswith("podium: ")
    return plain(line.removeprefix("podium: "), run)


def check_records(run: SmallRun, results: Mapping[str, set[str]], *, hits: Collection[str] = ()) -> None:
    """Every stage was done by its notebook, but these `hits` before the run, and its record names these files (pictures left out)."""
    assert outcomes(run.output) == {name: "hit" if name in hits else "done" for name in STAGES}
    stages = json.loads((run.folder / "run.json").read_text())["stages"]
    for name in STAGES:
        record = json.loads((run.stage(name) / "record.json").read_text())
        assert stages[name]["status"] == record["status"] == "done"
        assert record["entry"] == "notebook" and record["interactive"] == []
        assert stages[name]["key"] == record["key"]
        assert {file for file in record["outputs"] if not file.endswith(".jpg")} == results[name]


def broken_by(run: SmallRun, path: Path, content: bytes) -> list[str]:
    """What `verify`, which holds for the run as it is, finds broken while the file has another content."""
    answer = kit(run.home, "verify", run.folder.name)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    with changed(path, content):
        broken = kit(run.home, "verify", run.folder.name)
    assert broken.returncode == 1
    return [line for line in broken.stdout.splitlines() if line.startswith("BROKEN")]


def outcomes(output: str) -> dict[str, str]:
    """{stage: "hit" or "done"} of what `run` printed."""
    return dict(re.findall(r"^  \[\d/\d\] (\w+) +(hit|done)", output, flags=re.MULTILINE))


def play(stage: str, changes: Mapping[str, str] | None = None, *, of: str = "a3r") -> Path:
    """Run the code cells of a stage's notebook in this process; returns the folder of its results.

    Such a result counts only for what is played after it: the kit knows that no notebook was executed.
    """
    from lib import identity, paths, stages, store

    names = {"SUBMISSION": of, "VARIANT": "base", "PROFILE": "tiny", "RUN": "latest", "OVERRIDES": overrides(changes, of=of)}
    path = paths.notebook(stage)
    try:
        for cell in identity.code_cells(path):
            if "parameters" not in cell["tags"]:
                exec(compile(cell["source"], path.name, "exec"), names)
    finally:
        stages._close_others()
    return store.folder(of, stage, names["run"].key)


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """The file with another content, or without it (None), while the block runs; as it was afterwards, to its time stamps."""
    before, times = path.read_bytes(), path.stat()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
