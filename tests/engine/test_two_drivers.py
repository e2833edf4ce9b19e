"""Two at once: drivers on the same run, a driver and a person, stages of two submissions in the same second."""

import shutil

import pytest

from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout, ended, outcomes, read, wait_until

pytestmark = pytest.mark.engine

COMMAND = ("run", "mini", "--stages", "1-4", "--set", "machine.pause=0.05")


def trains(kit: Checkout) -> bool:
    """Whether a training has written a checkpoint."""
    return any(kit.log.glob(".stages/mini/04-finetune/*/checkpoints/state.json"))


def begin(stage: str, *, run: str = "latest", overrides: str = "") -> str:
    """A program that opens a stage by hand and prints the refusal."""
    return (
        "from lib import stages\nfrom lib.errors import KitError\n"
        f"try:\n    stages.begin({stage!r}, 'mini', 'base', 'tiny', {run!r}, {overrides!r})\n"
        "except KitError as error:\n    print(type(error).__name__, error)\n"
    )


def test_of_two_drivers_one_makes_each_stage_and_the_other_has_a_hit(checkout: Checkout, finished_kit: Checkout):
    answers = [ended(driver) for driver in (checkout.start(*COMMAND), checkout.start(*COMMAND))]
    assert [answer.returncode for answer in answers] == [0, 0], [answer.stderr for answer in answers]
    told = [outcomes(answer.stdout) for answer in answers]
    for stage in checkouts.STAGES[:4]:
        assert sorted(one[stage] for one in told) == ["done", "hit"], told
        assert checkout.record(stage)["outputs"] == finished_kit.record(stage)["outputs"]
    assert (checkout.place("finetune") / "train.log").read_text().count("starts at step") == 1


def test_two_drivers_that_only_have_hits_show_them_in_the_same_folder_undamaged(done: Checkout):
    before = read(done.folder() / "run.json")
    drivers = [done.start("run", "mini") for _ in range(4)]
    answers = [ended(driver) for driver in drivers]
    assert [(answer.returncode, answer.stderr) for answer in answers] == [(0, "")] * 4
    assert read(done.folder() / "run.json") == before
    assert not [path.name for path in done.folder().iterdir() if path.name.startswith(".") and path.name != ".lock"]


def test_a_stage_that_a_driver_makes_is_refused_by_hand_with_a_clear_error(prepared: Checkout):
    driver = prepared.start("run", "mini", "--stages", "4", "--set", "machine.pause=0.3")
    wait_until(lambda: trains(prepared) or driver.poll() is not None, "a training with a checkpoint")
    folders = len(prepared.folders())
    answer = prepared.python(begin("finetune", run="new"))
    place = prepared.place("finetune").relative_to(prepared.root)
    expected = f"StageFailed finetune with this identity is being made by another process ({place}); wait for it"
    assert answer.stdout.splitlines()[-1] == expected, answer.stderr
    assert len(prepared.folders()) == folders, "a refusal makes no run folder"
    assert ended(driver).returncode == 0


def test_runs_of_two_submissions_may_have_the_same_name(done: Checkout):
    submissions = done.root / "lib" / "submissions"
    shutil.copytree(submissions / "mini", submissions / "also")
    shutil.copytree(done.log / "mini", done.log / "also", symlinks=True)
    path = done.log / "also" / done.folder().name / "run.json"
    path.write_text(path.read_text().replace('"submission": "mini"', '"submission": "also"'))
    answer = done.python(
        "from lib import config, runs\n"
        f"print(*[runs.named({path.parent.name!r}, name).parent.name for name in ('also', 'mini')])\n"
        "print(runs.latest(config.resolve('mini')).parent.name)"
    )
    assert answer.stdout.split() == ["also", "mini", "mini"], answer.stderr


def test_submissions_run_in_parallel_are_told_of_when_they_end_and_a_failure_stops_no_other(checkout: Checkout):
    submissions = checkout.root / "lib" / "submissions"
    shutil.copytree(submissions / "mini", submissions / "broken")
    checkout.edit("lib/submissions/broken/data_prep.py", "    numbers =", "    raise ValueError('no numbers')\n    numbers =")
    answer = checkout.ask("run", "broken", "mini", "--stages", "1", "--jobs", "2")
    assert answer.returncode == 1
    assert answer.stderr == "podium: broken did not finish; the lines above say why\n"
    assert "podium: broken data_prep: ValueError: no numbers [log/.stages/broken/01-data-prep/" in answer.stdout
    assert "mini: 1 stages up to date in " in answer.stdout


def test_submissions_run_in_parallel_end_with_the_one_who_started_them(prepared: Checkout):
    shutil.copytree(prepared.root / "lib/submissions/mini", prepared.root / "lib/submissions/also")
    driver = prepared.start("run", "mini", "also", "--stages", "4", "--jobs", "2", "--set", "machine.pause=1.0")
    wait_until(lambda: trains(prepared) or prepared.processes("mini.training"), "a training")
    driver.send_signal(checkouts.signal.SIGINT)
    answer = ended(driver)
    assert (answer.returncode, answer.stderr) == (130, "podium: interrupted; the same command continues where it stopped\n")
    wait_until(lambda: not prepared.processes(), "the end of every process of the run")
    assert not list(prepared.log.glob(".stages/*/04-finetune/*/record.json"))
