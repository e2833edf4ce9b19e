"""A checkout of the kit in a folder of its own, with `mini` as its only submission: what the engine's tests run and kill.

Every process of a checkout carries a mark in its environment, by which the tests find those that are left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

KIT = Path(__file__).resolve().parents[2]
MINI = Path(__file__).with_name("mini")
STAGES = ("data_prep", "augmentation", "block_expansion", "finetune", "infer", "evaluate", "quick_review")
MARK = "PODIUM_TEST_CHECKOUT"
PATIENCE = 120.0  # seconds until something that has to happen counts as not happening, on a machine that others use too

# The cells between the one that opens the stage and the one that closes it.
VERBS = {
    "data_prep": ["samples = data_prep.write_samples(cfg, run)", "len(samples)"],
    "augmentation": ["augmentation.write_samples(cfg, run)"],
    "block_expansion": ["block_expansion.save_model(run)"],
    "finetune": ["weights = finetune.train(cfg, run)", "weights[:2]"],
    "infer": ["infer.write_predictions(cfg, run)"],
    "evaluate": ["show.table(evaluate.write_scores(cfg, run))"],
    "quick_review": ["quick_review.write_review(run)"],
}


@dataclass(frozen=True)
class Checkout:
    """A copy of the kit below `root`."""

    root: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see: this checkout's `lib`, its own folders, one thread."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PODIUM_", "PYTEST_", "COV_"))}
        places = {"PYTHONPATH": str(self.root), "JUPYTER_RUNTIME_DIR": str(self.root / ".jupyter"), MARK: str(self.root)}
        return {**own, **places, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(self.root / ".ipython"), **self.settings}

    @property
    def log(self) -> Path:
        """The folder of its runs."""
        return Path(self.settings.get("PODIUM_LOG", self.root / "log"))

    def start(self, *arguments: str) -> subprocess.Popen:
        """`python -m lib ARGUMENTS`, started; both outputs can be read."""
        return self.start_program([sys.executable, "-m", "lib", *arguments])

    def start_program(self, command: list[str]) -> subprocess.Popen:
        """Any program, started in the checkout's root in a session of its own, as a terminal would start it.

        Tests that run in the background of a shell without job control ignore SIGINT, and would hand that on.
        """
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ask(self, *arguments: str) -> subprocess.CompletedProcess:
        """`python -m lib ARGUMENTS`, run to its end."""
        return ended(self.start(*arguments))

    def python(self, program: str) -> subprocess.CompletedProcess:
        """A Python program that imports this checkout's `lib`, run to its end."""
        return ended(self.start_program([sys.executable, "-c", program]))

    def run(self, stages: str, *arguments: str) -> dict[str, str]:
        """`python -m lib run mini --stages STAGES`, which has to succeed: {stage: "hit" or "done"} in order."""
        answer = self.ask("run", "mini", "--stages", stages, *arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return outcomes(answer.stdout)

    def notebook(self, stage: str) -> Path:
        """The stage's notebook."""
        return self.root / "notebooks" / f"{numbered(stage)}.ipynb"

    def edit(self, name: str, old: str, by: str) -> None:
        """Replace text that occurs once in a file of the checkout."""
        path = self.root / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {name}"
        path.write_text(text.replace(old, by))

    def places(self, stage: str) -> list[Path]:
        """The stage's folders in the store, the one changed last at the end."""
        found = (self.log / ".stages" / "mini" / numbered(stage)).glob("*/")
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def place(self, stage: str) -> Path:
        """The stage's only folder in the store."""
        (only,) = self.places(stage)
        return only

    def record(self, stage: str) -> dict:
        """The record in the stage's only folder."""
        return read(self.place(stage) / "record.json")

    def folders(self) -> list[Path]:
        """The run folders, oldest first."""
        return sorted(path.parent for path in (self.log / "mini").glob("*/run.json"))

    def folder(self) -> Path:
        """The only run folder."""
        (only,) = self.folders()
        return only

    def entry(self, stage: str) -> dict:
        """The stage's line in the run.json of the only run."""
        return read(self.folder() / "run.json")["stages"][stage]

    def processes(self, part: str = "") -> list[int]:
        """Ids of the living processes of this checkout whose command line has that part."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                belongs = f"{MARK}={self.root}".encode() in (path / "environ").read_bytes().split(b"\0")
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has ended meanwhile, or is another user's
                continue
            if belongs and command and part in command:  # a zombie has no command line
                found.append(int(path.name))
        return found

    def kill_all(self) -> None:
        """End every process of this checkout."""
        for process in self.processes():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def make(root: Path, **settings: str) -> Checkout:
    """Copy `lib` without its submissions to `root`, add mini and its notebooks."""
    shutil.copytree(KIT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__", "submissions"))
    shutil.copytree(MINI, root / "lib" / "submissions" / "mini", ignore=shutil.ignore_patterns("__pycache__"))
    for stage in STAGES:
        write_notebook(root / "notebooks" / f"{numbered(stage)}.ipynb", cells(stage))
    return Checkout(root, settings)


def numbered(stage: str) -> str:
    """ "data_prep" -> "01-data-prep"."""
    return f"{STAGES.index(stage) + 1:02d}-{stage.replace('_', '-')}"


def cells(stage: str) -> list[str]:
    """The sources of the stage's code cells; the first is tagged as that of the parameters."""
    run = {"data_prep": "new", "quick_review": "best"}.get(stage, "latest")
    parameters = ['SUBMISSION = "mini"', 'VARIANT = "base"', 'PROFILE = "tiny"', f'RUN = "{run}"', 'OVERRIDES = ""']
    opening = f'cfg, run, {stage} = stages.begin("{stage}", SUBMISSION, VARIANT, PROFILE, RUN, OVERRIDES)'
    return ["\n".join(parameters), "from lib import show, stages", opening, *VERBS[stage], "stages.finish(run)"]


def write_notebook(path: Path, sources: list[str]) -> None:
    """A notebook of these code cells."""
    found = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {"tags": ["parameters"]} if number == 0 else {},
            "outputs": [],
            "source": source.splitlines(keepends=True),
        }
        for number, source in enumerate(sources)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": found, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def ended(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """What a started process answered once it has ended."""
    output, errors = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def outcomes(output: str) -> dict[str, str]:
    """{stage: "hit" or "done"} of the lines that `run` prints."""
    lines = [line.split("]", 1)[1].split() for line in output.splitlines() if line.startswith("  [")]
    return {words[0]: words[1] for words in lines if words[1] in ("hit", "done")}


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait until it holds; fail, saying what did not happen, if it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.02)


def read(path: Path) -> object:
    """A JSON file."""
    return json.loads(path.read_text())
