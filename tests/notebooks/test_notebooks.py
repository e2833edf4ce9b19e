"""The notebooks as a user's CI runs them: by plain papermill, by the runner, and the two quick reviews without torch."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import small
from tests.small import ROOT, SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

# A module of this name is found first and stands for one that is not installed.
BLOCKED = "raise ModuleNotFoundError('torch is blocked: the quick review works without it')\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The small chain of the session."""
    return small.finished_run(tmp_path_factory.getbasetemp() / "small-a3r", "a3r")


@pytest.fixture(scope="module")
def kept(run: SmallRun) -> SmallRun:
    """The same, kept as the best run of its home."""
    answer = small.kit(run.home, "keep", run.folder.name)
    assert answer.returncode == 0, answer.stderr
    return run


def papermill(home: Path, notebook: str, output: Path, *parameters: str, **more: str) -> subprocess.CompletedProcess:
    """`papermill NOTEBOOK OUT -p NAME VALUE ...` as a user types it."""
    given = [part for one in parameters for part in ("-p", *one.split("=", 1))]
    command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}", str(output), *given]
    return subprocess.run(command, cwd=ROOT, env=small.environment(home, **more), capture_output=True, text=True, timeout=600, check=False)


def outputs_of(path: Path) -> list[dict]:
    """All outputs of an executed notebook."""
    cells = json.loads(path.read_text())["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def text_of(path: Path) -> str:
    """Everything an executed notebook shows as text."""
    parts = []
    for output in outputs_of(path):
        shown = {**output.get("data", {}), "stream": output.get("text", "")}
        parts += ["".join(value) for key, value in shown.items() if key in ("stream", "text/plain", "text/html", "text/markdown")]
    return "\n".join(parts)


def test_01_by_plain_papermill_writes_the_record_of_the_runner(run: SmallRun, tmp_path: Path):
    answer = papermill(run.home, "01-data-prep.ipynb", tmp_path / "out.ipynb", "SUBMISSION=a3r", f"OVERRIDES={small.one_line()}")
    assert answer.returncode == 0, answer.stderr
    key = json.loads((run.stage("data_prep") / "record.json").read_text())["key"]
    assert f"key {key[:16]}" in text_of(tmp_path / "out.ipynb")
    assert "this repetition gave identical files" in text_of(tmp_path / "out.ipynb")


def test_04_without_the_earlier_stages_names_the_notebook_to_run_first(tmp_path: Path):
    answer = papermill(tmp_path / "empty", "04-finetune.ipynb", tmp_path / "out.ipynb", "SUBMISSION=a3r", f"OVERRIDES={small.one_line()}")
    assert answer.returncode == 1
    assert re.search(r"MissingInput: a3r: finetune reads augmentation, .*run notebooks/02-augmentation.ipynb first", answer.stderr)


def test_executed_notebooks_have_no_error_and_no_path_of_this_machine(run: SmallRun):
    for stage in small.STAGES:
        path = run.stage(stage) / "notebook.ipynb"
        assert [output for output in outputs_of(path) if output["output_type"] == "error"] == [], stage
        assert f"{ROOT}/" not in path.read_text() and f"{sys.prefix}/" not in path.read_text(), stage


@pytest.mark.parametrize("notebook", ["notebook-quick-review.ipynb", "notebook-quick-review-last.ipynb"])
def test_the_quick_review_scores_again_in_seconds_without_torch(kept: SmallRun, tmp_path: Path, notebook: str):
    (tmp_path / "torch.py").write_text(BLOCKED)
    began = time.monotonic()
    answer = papermill(kept.home, notebook, tmp_path / "out.ipynb", PYTHONPATH=f"{tmp_path}:{ROOT}")
    seconds = time.monotonic() - began
    assert answer.returncode == 0, answer.stderr
    shown = text_of(tmp_path / "out.ipynb")
    assert "CODE PATH ONLY" in shown and "SOURCE NOT CONFIRMED" in shown
    assert "scores recomputed from raw predictions; different: none" in shown
    assert any("image/png" in output.get("data", {}) for output in outputs_of(tmp_path / "out.ipynb"))
    assert seconds < 60, f"{seconds:.0f} s; the target on an idle machine is 15 s (script/bench.sh)"


def test_notebook_reproduce_runs_everything_and_ends_in_the_verdicts(run: SmallRun, tmp_path: Path):
    answer = papermill(run.home, "notebook-reproduce.ipynb", tmp_path / "out.ipynb", "SUBMISSIONS=a3r", f"OVERRIDES={small.one_line()}")
    assert answer.returncode == 0, answer.stderr
    shown = text_of(tmp_path / "out.ipynb")
    assert "7 stages up to date" in shown and "CODE PATH ONLY" in shown


def test_a_misspelt_submission_is_refused_with_the_known_ones(tmp_path: Path):
    answer = papermill(tmp_path, "01-data-prep.ipynb", tmp_path / "out.ipynb", "SUBMISSION=a3rr")
    assert answer.returncode == 1
    assert "ConfigError: no submission 'a3rr'; the kit has: a3r, cityllava, dataengine" in answer.stderr
