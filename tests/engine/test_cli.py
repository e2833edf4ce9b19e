"""The command line: exit statuses, one line on stderr, and answers without torch in about a second."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

from lib import claims, config, console, files, runs
from lib.errors import ConfigError
from lib.runner import Event
from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout

RUN_ONLY = ("torch", "torchvision", "transformers", "open_clip", "open_clip_train", "pandas", "accelerate", "deepspeed", "safetensors")
REVIEW_ONLY = ("matplotlib", "papermill", "nbclient", "IPython", "tensorboard", "jinja2", "PIL")


def forbid(*packages: str) -> str:
    """A program's first lines: none of these packages can be imported after them."""
    return (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {packages}:\n"
        "            raise ImportError(name + ' is not installed here')\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )


def without(packages: tuple[str, ...], kit: Checkout, *arguments: str) -> CompletedProcess:
    """`python -m lib ARGUMENTS` where none of these packages is installed."""
    return kit.python(f"{forbid(*packages)}from lib.__main__ import main\nsys.exit(main({list(arguments)}))")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list",), "mini x x x x x x base last no"),
        (("show", "mini", "finetune"), "finetune.lr 0.05 base [ours] how far a weight moves towards the number it meets"),
        (("show", "mini", "infer", "--variant", "last"), "infer.offset 1 variant last"),
        (("plan", "mini"), "data_prep run waits for data"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_it_answers_without_the_packages_of_the_review_and_run_extras(checkout: Checkout, arguments: tuple[str, ...], words: str):
    answer = without(RUN_ONLY + REVIEW_ONLY, checkout, *arguments)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert words in [" ".join(line.split()) for line in answer.stdout.splitlines()], answer.stdout


def test_the_control_a_heavy_package_is_refused(checkout: Checkout):
    assert "torch is not installed here" in checkout.python(f"{forbid(*RUN_ONLY)}import torch").stderr


@pytest.mark.parametrize("command", [("list",), ("show", "mini")], ids=" ".join)
def test_list_and_show_answer_in_about_a_second(checkout: Checkout, command: tuple[str, ...]):
    """At most a second of computing more than an interpreter that imports what settings need; others may keep the machine busy."""

    def seconds(ask: Callable[[], CompletedProcess]) -> float:
        began = os.times()
        assert ask().returncode == 0
        ended = os.times()
        return ended.children_user + ended.children_system - began.children_user - began.children_system

    bare = min(seconds(lambda: checkout.python("import pydantic, yaml")) for _ in range(3))
    assert min(seconds(lambda: checkout.ask(*command)) for _ in range(3)) < bare + 1.0


@pytest.mark.parametrize("arguments", [(), ("fly",), ("show",), ("run", "--profile")], ids=lambda value: " ".join(value) or "nothing")
def test_wrong_usage_is_status_2(checkout: Checkout, arguments: tuple[str, ...]):
    answer = checkout.ask(*arguments)
    assert answer.returncode == 2
    assert answer.stderr.startswith("usage: python -m lib")


SECTIONS = "seed, machine, data, model, data_prep, augmentation, finetune, infer, evaluate"
NO_RUN = "the newest are: none, start one with python -m lib run"


REFUSALS = [
    (("show", "nano"), "no submission 'nano'; the kit has: mini"),
    (("show", "mini", "training"), f"mini has no section 'training'; it has: {SECTIONS}"),
    (("plan", "mini", "--profile", "huge"), "mini has no profile 'huge'; it has: full, tiny"),
    (("run", "mini", "--variant", "first"), "mini has no variant 'first'; it has: base, last"),
    (("run", "mini", "--set", "infer.offset"), "override 'infer.offset' is not of the form section.key=value, as in finetune.lr=1e-4"),
    (
        ("run", "mini", "--stages", "0-3"),
        f"no stages '0-3'; give a number or range from 1 to 7, or one of: {', '.join(checkouts.STAGES)}",
    ),
    (("run", "mini", "--tag", "my run"), "tag 'my run' cannot be part of a folder's name; use letters, digits, dots and hyphens"),
    (("reference", "mini", "--seeds", "a-b"), "no seeds 'a-b'; give a range such as 0-4"),
    (("reference", "mini", "--seeds", "4-0"), "no seeds '4-0'; give a range such as 0-4"),
    (("reference", "mini", "--seeds", "0-3"), "4 seeds; reference points need at least five, as in --seeds 0-4"),
    (("verify", "yesterday"), f"no run 'yesterday'; {NO_RUN}"),
    (("compare", "one", "other"), f"no run 'one'; {NO_RUN}"),
    (("keep", "yesterday"), f"no run 'yesterday'; {NO_RUN}"),
    (("review", "mini"), "mini has no kept run in best-result-review; keep one with: python -m lib keep RUN"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[int, str]]:
    """Exit status and stderr of each refused command, all asked of one process."""
    kit = checkouts.make(tmp_path_factory.mktemp("refusals") / "kit")
    program = (
        "import contextlib, io, json\nfrom lib.__main__ import main\n"
        f"for arguments in {[list(arguments) for arguments, _ in REFUSALS]}:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):\n"
        "        status = main(arguments)\n"
        "    print(json.dumps([status, said.getvalue()]))\n"
    )
    lines = kit.python(program).stdout.splitlines()
    return {arguments: tuple(json.loads(line)) for (arguments, _), line in zip(REFUSALS, lines, strict=True)}


@pytest.mark.parametrize(("arguments", "line"), REFUSALS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_a_refusal_is_status_1_and_one_line_on_stderr(answers: dict, arguments: tuple[str, ...], line: str):
    assert answers[arguments] == (1, f"podium: {line}\n")


def test_the_exit_status_of_the_process_is_that_of_the_command(checkout: Checkout):
    answer = checkout.ask("show", "nano")
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "podium: no submission 'nano'; the kit has: mini\n")


SOURCES = """
data:
  - {path: datasets/numbers.json, what: the numbers, where: nowhere, required: true}
weights:
  mini-none: {file: weights.bin, gib: 1.5, repository: none/mini}
"""


def test_published_data_and_weights_that_are_not_there_are_named_before_anything_starts(checkout: Checkout):
    path = checkout.root / "data" / "mini" / "sources.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCES)
    data = "data: data/mini/datasets/numbers.json (the numbers; nowhere)"
    weights = "weights: data/base/mini-none/weights.bin (1.5 GiB; huggingface repository none/mini, file weights.bin)"
    command = "python -m lib plan mini --profile full"
    answer = checkout.ask("plan", "mini", "--profile", "full")
    assert answer.returncode == 1
    assert [line for line in answer.stdout.splitlines() if line.startswith("missing")] == [f"missing: {data}", f"missing: {weights}"]
    answer = checkout.ask("run", "mini", "--profile", "full")
    assert (answer.returncode, answer.stderr) == (1, f"podium: mini: {data} is missing (2 in all); {command} lists them\n")
    program = (
        "from lib import config, inputs\n"
        "for name in ('data', 'base'):\n"
        "    try:\n        inputs.prepare(config.resolve('mini', profile='full'), (name,))\n"
        "    except Exception as error:\n        print(error)\n"
    )
    assert checkout.python(program).stdout.splitlines() == [
        f"mini: data/mini/datasets is not there; {command} lists what to bring and where to put it",
        f"mini: the base weights data/base/mini-none are not there; {command} says which file goes there",
    ]
    assert not checkout.folders()


def test_a_submission_without_runs_says_how_to_start_one(checkout: Checkout):
    answer = checkout.python("from lib import runs\ntry:\n    runs.newest_scored('mini')\nexcept Exception as error:\n    print(error)")
    assert answer.stdout == "mini has no run with scores in log; start one with: python -m lib run mini\n"


@pytest.mark.engine
def test_a_finished_run_is_planned_reviewed_verified_and_compared(done: Checkout):
    name = done.folder().name
    planned = [line.split()[:2] for line in done.ask("plan", "mini").stdout.splitlines()[3:] if line]
    assert planned == [[stage, "hit"] for stage in checkouts.STAGES]
    said = {"review": "CODE PATH ONLY", "verify": f"{name} verifies: ", "compare": "the same settings"}
    for command in (("review", "mini", "--run", name), ("verify", name), ("compare", name, name)):
        answer = without(RUN_ONLY, done, *command)
        assert (answer.returncode, answer.stderr) == (0, ""), command
        assert said[command[0]] in answer.stdout


@pytest.mark.engine
def test_runs_with_other_settings_are_compared_setting_by_setting_and_score_by_score(done: Checkout):
    done.run("6", "--set", "evaluate.scale=2.0")
    one, other = (folder.name for folder in done.folders())
    lines = done.ask("compare", one, other).stdout.splitlines()
    assert lines[0] == "evaluate.scale: 1.0 -> 2.0"
    values = lines[-1].split()
    assert values[:4] == ["test", "distance", "all", "finetuned"]
    assert float(values[5]) == pytest.approx(2 * float(values[4]), rel=1e-3)


def test_events_are_lines_with_the_time_left(capsys: pytest.CaptureFixture[str]):
    for kind, fields in (("start", {"left": 100.0}), ("tick", {"line": "step 3"}), ("hit", {}), ("done", {"seconds": 3.21, "left": 40.0})):
        console.show_event(Event(kind, "finetune", 4, 7, **fields))
    assert capsys.readouterr().out.splitlines() == [
        "  [4/7] finetune        running, about 2 min left",
        "  [4/7] finetune        hit",
        "  [4/7] finetune        done in 3.2 s, about 40 s left",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(40.4, "40 s"), (180.0, "3 min"), (9000.0, "2.5 h")])
def test_durations_are_spoken_in_the_unit_that_fits(seconds: float, words: str):
    assert console.spoken(seconds) == words


def test_reference_points_need_five_seeds():
    with pytest.raises(ConfigError) as raised:
        console.record_reference("mini", [0, 1, 2, 3], [])
    assert str(raised.value) == "4 seeds; reference points need at least five, as in --seeds 0-4"


def test_reference_points_are_the_scores_over_everything_or_by_group_where_there_is_no_whole(tmp_path, monkeypatch: pytest.MonkeyPatch):
    def run(resolved, stages) -> Path:
        seed = resolved.settings.seed
        rows = [("score", "all", 10.0 + seed), ("score", "phase 1", 9.0), ("clauses", "colour", 0.5 + seed / 10), ("late", "all", 1.0)]
        scores = [{"benchmark": "val", "metric": m, "group": g, "model": "finetuned", "value": v, "n": 4} for m, g, v in rows]
        folder = tmp_path / f"run-{seed}"
        files.write_json(folder / "06-evaluate" / "metrics.json", {"scores": scores if seed else scores[:-1]})
        return folder

    monkeypatch.setattr(runs, "stage_folder", lambda folder, stage: folder / "06-evaluate")
    monkeypatch.setattr(config, "config_file", lambda submission: tmp_path / "config.yaml")
    monkeypatch.setattr(
        config, "resolve", lambda submission, overrides: SimpleNamespace(settings=SimpleNamespace(seed=int(overrides[0][5:])))
    )
    monkeypatch.setattr(config, "layers", lambda submission: {"ablations": {}})
    written = console.record_reference("mini", [0, 1, 2, 3, 4], [], run=run)
    assert {(row.metric, row.group): row.values for row in claims.read_references(written)} == {
        ("score", "all"): (10.0, 11.0, 12.0, 13.0, 14.0),
        ("clauses", "colour"): (0.5, 0.6, 0.7, 0.8, 0.9),
    }


def test_controls_are_run_on_every_seed_and_stand_under_their_own_names(tmp_path, monkeypatch: pytest.MonkeyPatch):
    def run(resolved, stages) -> Path:
        (seed, *changes) = resolved
        folder = tmp_path / "-".join(resolved)
        value = float(seed[5:]) + 10 * len(changes)
        scores = [
            {"benchmark": "val", "metric": "score", "group": "all", "model": m, "value": value, "n": 4} for m in ("finetuned", "base")
        ]
        files.write_json(folder / "06-evaluate" / "metrics.json", {"scores": scores})
        return folder

    monkeypatch.setattr(runs, "stage_folder", lambda folder, stage: folder / "06-evaluate")
    monkeypatch.setattr(config, "config_file", lambda submission: tmp_path / "config.yaml")
    monkeypatch.setattr(config, "resolve", lambda submission, overrides: overrides)
    monkeypatch.setattr(config, "layers", lambda submission: {"ablations": {"half": ["share=0.5"], "none": ["share=0"]}})
    written = console.record_reference("mini", [0, 1, 2, 3, 4], ["half"], run=run)
    assert {row.model: row.values for row in claims.read_references(written)} == {
        "finetuned": (0.0, 1.0, 2.0, 3.0, 4.0),
        "base": (0.0, 1.0, 2.0, 3.0, 4.0),
        "half": (10.0, 11.0, 12.0, 13.0, 14.0),
    }
    with pytest.raises(ConfigError) as raised:
        console.record_reference("mini", [0, 1, 2, 3, 4], ["full"], run=run)
    assert str(raised.value) == "mini has no ablation 'full'; it has: half, none"
