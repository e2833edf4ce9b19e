"""Keeping a run, and verifying it here or where it was kept: whatever was changed is found."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.engine.checkout import STAGES, Checkout, numbered, read

pytestmark = pytest.mark.engine


@pytest.fixture
def kept(done: Checkout) -> Path:
    """The folder of a kept run."""
    answer = done.ask("keep", done.folder().name)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "kept in best-result-review/mini; python -m lib verify mini checks it\n"
    return done.root / "best-result-review" / "mini"


def broken(kit: Checkout, run: str) -> list[str]:
    """What `verify` says is broken; its exit status and its one line on stderr have to agree with that."""
    answer = kit.ask("verify", run)
    lines = answer.stdout.splitlines()
    found = [line.removeprefix("BROKEN  ") for line in lines if line.startswith("BROKEN")]
    total = sum(line.startswith(("BROKEN", "holds ")) for line in lines)
    line = f"podium: {Path(run).name} does not verify: {len(found)} of {total} findings are broken; see above\n"
    assert (answer.returncode, answer.stderr) == ((1, line) if found else (0, "")), answer.stdout
    return found


def test_a_kept_run_holds_everything_but_links_and_verifies_without_the_log(done: Checkout, kept: Path):
    assert not [path for path in kept.rglob("*") if path.is_symlink()]
    assert {path.name for path in (kept / "notebooks").iterdir()} == {f"{numbered(stage)}.ipynb" for stage in STAGES}
    assert (kept / "report.html").is_file() and (kept / "05-infer" / "test.jsonl").is_file()
    assert read(kept / "kept.json")["left_out"] == {}
    shutil.rmtree(done.log)
    assert broken(done, "mini") == []
    answer = done.ask("review", "mini")
    assert (answer.returncode, answer.stderr) == (0, "") and "CODE PATH ONLY" in answer.stdout
    assert done.ask("list").stdout.splitlines()[2].endswith("yes")


def change(path: Path) -> None:
    """Change a kept file so that it can still be read."""
    if path.name == "metrics.json":
        content = read(path)
        content["scores"][0]["value"] += 1
        path.write_text(json.dumps(content))
    elif path.name == "test.jsonl":
        path.write_text('{"prediction": 1000.0}\n' + path.read_text())
    else:
        path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        (
            "05-infer/test.jsonl",
            ["infer: 1 results re-hashed; changed or missing: test.jsonl", "1 scores recomputed from raw predictions; "],
        ),
        ("06-evaluate/metrics.json", ["evaluate: 2 results re-hashed; changed or missing: metrics.json", "1 scores recomputed from raw "]),
        ("notebooks/05-infer.ipynb", []),
        ("run.json", []),
    ],
)
def test_a_kept_file_that_was_tampered_with_is_found(done: Checkout, kept: Path, name: str, starts: list[str]):
    change(kept / name)
    found = broken(done, "mini")
    assert found[0].endswith(f" kept files re-hashed; changed or missing: {name}")
    assert [one[: len(start)] for one, start in zip(found[1:], starts, strict=True)] == starts


def test_a_file_that_nobody_kept_and_one_that_is_gone_are_found(done: Checkout, kept: Path):
    (kept / "extra.txt").write_text("?")
    (kept / "report.html").unlink()
    first, second = broken(done, "mini")
    assert first.endswith("changed or missing: report.html")
    assert second == "files that nobody kept: extra.txt"


def test_files_above_2_mb_are_left_out_and_named(done: Checkout):
    place = done.place("finetune")
    weights, record = place / "model" / "weights.json", read(place / "record.json")
    weights.write_text(weights.read_text() + " " * 2 * 2**20)
    record["outputs"]["model/weights.json"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (place / "record.json").write_text(json.dumps(record))
    assert done.ask("keep", done.folder().name).returncode == 0
    kept = done.root / "best-result-review" / "mini"
    assert read(kept / "kept.json")["left_out"] == {"04-finetune/model/weights.json": f"{weights.stat().st_size} bytes"}
    assert not (kept / "04-finetune" / "model").exists()
    assert broken(done, "mini") == []
    expected = "finetune: 0 results re-hashed, 1 not kept for their size; changed or missing: none"
    assert expected in done.ask("verify", "mini").stdout


def test_a_run_that_does_not_verify_cannot_be_kept_and_the_older_kept_run_stays(done: Checkout, kept: Path):
    before = (kept / "kept.json").read_bytes()
    (done.place("infer") / "test.jsonl").write_text('{"prediction": 0.0}\n')
    name = done.folder().name
    answer = done.ask("keep", name)
    reason = "infer: 1 results re-hashed; changed or missing: test.jsonl"
    assert (answer.returncode, answer.stderr) == (1, f"podium: {name} cannot be kept, it does not verify: {reason}\n")
    assert (kept / "kept.json").read_bytes() == before
    assert not list(kept.parent.glob(".mini*"))


@pytest.mark.parametrize(
    ("end", "where"), [("raise KeyboardInterrupt", "mini"), ("os._exit(9)", ".mini.old")], ids=["interrupted", "killed"]
)
def test_the_older_kept_run_is_whole_whatever_ends_keep_before_the_newer_one_is_there(done: Checkout, kept: Path, end: str, where: str):
    before = (kept / "kept.json").read_bytes()
    program = (
        "import os\nfrom pathlib import Path\nfrom lib import review, runs\nrename = Path.rename\n"
        f"def ending(path, target):\n    if path.name == '.mini.new':\n        {end}\n    return rename(path, target)\n"
        f"Path.rename = ending\nreview.keep(runs.named({done.folder().name!r}))"
    )
    assert done.python(program).returncode != 0
    assert (kept.parent / where / "kept.json").read_bytes() == before
    assert done.ask("keep", done.folder().name).returncode == 0
    assert broken(done, "mini") == []
    assert [path.name for path in kept.parent.iterdir()] == ["mini"]


def test_a_run_that_is_not_complete_cannot_be_kept(prepared: Checkout):
    prepared.run("4", "--set", "finetune.steps=4")
    name = prepared.folder().name
    answer = prepared.ask("keep", name)
    reason = "stages without a result: infer, evaluate, quick_review"
    assert (answer.returncode, answer.stderr) == (1, f"podium: {name} cannot be kept, it does not verify: {reason}\n")


def test_a_stage_made_with_cells_of_ones_own_is_found(done: Checkout):
    path = done.place("infer") / "record.json"
    path.write_text(json.dumps({**read(path), "interactive": ["x = 1"]}))
    assert broken(done, str(done.folder())) == ["infer: made with cells beside the notebook's own ('x = 1')"]


def test_a_run_that_names_another_key_or_a_failed_stage_is_found(done: Checkout):
    path = done.folder() / "run.json"
    content = read(path)
    key = content["stages"]["infer"]["key"]
    content["stages"]["infer"]["key"] = "0" * 64
    content["stages"]["evaluate"]["status"] = "failed"
    path.write_text(json.dumps(content))
    assert broken(done, str(done.folder())) == [
        f"infer: run.json names the key 000000000000, the record {key[:12]}",
        "evaluate: failed, no record of a finished stage",
    ]


def test_a_folder_whose_run_json_is_of_another_kind_is_named(done: Checkout):
    path = done.folder() / "run.json"
    path.write_text("{}")
    answer = done.ask("verify", str(done.folder()))
    assert (answer.returncode, answer.stderr) == (
        1,
        f"podium: {path.relative_to(done.root)}: no list of stages; not written by this kit?\n",
    )
