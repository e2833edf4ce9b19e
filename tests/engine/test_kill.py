"""Whatever is killed at whatever moment: no process is left, nothing half counts, and the same command goes on bit for bit."""

import os
import random
import signal
from collections.abc import Callable

import pytest

from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout, ended, read, wait_until

pytestmark = pytest.mark.engine

TRAINING = "lib.submissions.mini.training"
SLOW = ("--set", "machine.pause=0.05", "--set", "machine.grandchildren=true")
COMMAND = ("run", "mini", "--stages", "4", *SLOW)
CONTINUES = "podium: interrupted; the same command continues where it stopped\n"


def trains(kit: Checkout) -> bool:
    """Whether a training has written a checkpoint, with both its grandchildren alive."""
    return len(kit.processes("sleep 1000")) == 2 and any(kit.log.glob(".stages/mini/04-finetune/*/checkpoints/state.json"))


def started(kit: Checkout) -> object:
    """A driver whose training runs."""
    driver = kit.start(*COMMAND)
    wait_until(lambda: trains(kit) or driver.poll() is not None, "a training with a checkpoint")
    assert driver.poll() is None, ended(driver)
    return driver


def only(numbers: list[int]) -> int:
    """The one process."""
    (number,) = numbers
    return number


def is_done(kit: Checkout) -> bool:
    """Whether any attempt at finetune counts as done."""
    return any(kit.log.glob(".stages/mini/04-finetune/*/record.json"))


def goes_on(kit: Checkout) -> str:
    """Give the same command again; returns the log of the training."""
    answer = kit.ask(*COMMAND)
    assert answer.returncode == 0, answer.stderr
    assert len(kit.places("finetune")) == 1 and len(kit.folders()) == 1
    return (kit.place("finetune") / "train.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_driver_interrupted_while_its_kernel_starts_leaves_no_process_and_says_one_line(prepared: Checkout, number: signal.Signals):
    driver = prepared.start(*COMMAND)
    wait_until(lambda: prepared.processes("ipykernel_launcher"), "a kernel")
    driver.send_signal(number)
    answer = ended(driver)
    assert not prepared.processes()
    assert (answer.returncode, answer.stderr) == (130, CONTINUES)


def test_an_interrupt_inside_a_string_that_runs_is_told_like_any_other(checkout: Checkout):
    checkout.edit("lib/runner.py", "    import papermill\n", "    exec('raise KeyboardInterrupt')\n    import papermill\n")
    answer = checkout.ask("run", "mini", "--stages", "1")
    assert (answer.returncode, answer.stderr) == (130, CONTINUES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_killed_driver_leaves_no_process_and_the_same_command_goes_on_bit_for_bit(
    prepared: Checkout, finished_kit: Checkout, weights: Callable[[Checkout], str], number: signal.Signals
):
    driver = started(prepared)
    driver.send_signal(number)
    answer = ended(driver)
    if number == signal.SIGKILL:
        assert answer.returncode == -signal.SIGKILL
    else:
        assert (answer.returncode, answer.stderr) == (130, CONTINUES)
    wait_until(lambda: not prepared.processes(), "the end of every process of the run")
    assert not is_done(prepared)
    entry = prepared.entry("finetune")
    assert entry["status"] == ("running" if number == signal.SIGKILL else "interrupted")
    assert entry.get("message", "") == ("" if number == signal.SIGKILL else "interrupted; the same command continues")
    log = goes_on(prepared)
    assert log.count("starts at step 0\n") == 1 and log.count("starts at step ") == 2
    assert weights(prepared) == weights(finished_kit)
    assert prepared.record("finetune")["outputs"] == finished_kit.record("finetune")["outputs"]
    assert not prepared.processes()


def test_a_killed_kernel_fails_the_stage_in_one_line_and_leaves_no_process(prepared: Checkout):
    driver = started(prepared)
    os.kill(only(prepared.processes("ipykernel_launcher")), signal.SIGKILL)
    answer = ended(driver)
    assert answer.returncode == 1
    reason = "the kernel of notebooks/04-finetune.ipynb was killed, by hand or for want of memory; the same command continues"
    assert answer.stderr == f"podium: mini finetune: {reason}\n"
    wait_until(lambda: not prepared.processes(), "the end of every process of the run")
    assert (prepared.entry("finetune")["status"], prepared.entry("finetune")["message"]) == ("failed", reason)
    assert not is_done(prepared)


def test_a_killed_training_fails_the_stage_in_one_line_and_nothing_after_it_runs(prepared: Checkout):
    driver = prepared.start("run", "mini", "--stages", "4-7", *SLOW)
    wait_until(lambda: trains(prepared), "a training with a checkpoint")
    _guard, training = sorted(prepared.processes(TRAINING))
    os.kill(training, signal.SIGKILL)
    answer = ended(driver)
    assert answer.returncode == 1
    log = prepared.place("finetune").relative_to(prepared.root) / "train.log"
    said = f"training ended with status 137: starts at step 0 ({log}) [{log.with_name('notebook.ipynb')}]"
    assert answer.stderr == f"podium: mini finetune: {said}\n"
    assert list(read(prepared.folder() / "run.json")["stages"]) == ["data_prep", "augmentation", "block_expansion", "finetune"]
    assert not (prepared.log / ".stages" / "mini" / "05-infer").exists()
    assert not prepared.processes(), "the orphans of a killed training are ended before the driver says so"


def test_a_killed_guard_takes_its_training_along(prepared: Checkout):
    driver = started(prepared)
    guard, _training = sorted(prepared.processes(TRAINING))
    os.kill(guard, signal.SIGKILL)
    assert ended(driver).returncode == 1
    wait_until(lambda: not prepared.processes(TRAINING), "the end of the training")
    assert not is_done(prepared)


def test_a_driver_killed_at_random_moments_ends_with_the_result_of_an_undisturbed_run(checkout: Checkout, finished_kit: Checkout):
    moments = random.Random(20261120)
    command = ("run", "mini", "--stages", "1-4", "--set", "machine.pause=0.02")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        driver = checkout.start(*command)
        try:
            driver.wait(moments.uniform(0.5, 6.0))
        except checkouts.subprocess.TimeoutExpired:
            driver.send_signal(number)
        ended(driver)
        wait_until(lambda: not checkout.processes(), "the end of every process of the run")
    assert checkout.ask(*command).returncode == 0
    for stage in checkouts.STAGES[:4]:
        assert checkout.record(stage)["outputs"] == finished_kit.record(stage)["outputs"], stage
        assert checkout.record(stage)["key"] == finished_kit.record(stage)["key"], stage
    newest = checkout.folders()[-1]
    assert [entry["status"] for entry in read(newest / "run.json")["stages"].values()] == ["done"] * 4


def test_a_program_in_a_session_of_its_own_ends_with_the_one_who_started_it(checkout: Checkout):
    """Without kernels: a parent that is killed, the guard, and orphans inside and outside the program's group."""
    program = (
        "import subprocess, sys, time\n"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "subprocess.Popen([sys.executable, '-c', 'import subprocess; subprocess.Popen([\"sleep\", \"1000\"], start_new_session=True)']).wait()\n"
        "time.sleep(1000)\n"
    )
    starter = f"from pathlib import Path; from lib import launch; import sys; launch.start([sys.executable, '-c', {program!r}], Path('x.log')).wait()"
    parent = checkout.start_program([checkouts.sys.executable, "-c", starter])
    wait_until(lambda: len(checkout.processes("sleep 1000")) >= 2, "both orphans")
    parent.kill()
    ended(parent)
    wait_until(lambda: not checkout.processes(), "the end of all that the killed process started")


def test_a_program_that_ends_well_takes_what_it_left_behind_along(checkout: Checkout):
    program = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True); print('all done')"
    starter = (
        "from pathlib import Path; from lib import launch; import sys; "
        f"launch.run([sys.executable, '-c', {program!r}], Path('x.log'), watch=lambda: None, label='one')"
    )
    answer = checkout.python(starter)
    assert answer.returncode == 0, answer.stderr
    assert not checkout.processes()
    assert (checkout.root / "x.log").read_text().endswith("all done\n")


def test_a_failed_program_is_reported_by_what_it_said_itself_not_an_earlier_attempt(checkout: Checkout):
    starter = (
        "from pathlib import Path; from lib import launch; import sys\n"
        "for program in ('raise SystemExit(\"too few pairs\")', 'raise SystemExit(3)'):\n"
        "    try:\n"
        "        launch.run([sys.executable, '-c', program], Path('x.log').absolute(), watch=lambda: None, label='training')\n"
        "    except Exception as error:\n"
        "        print(error)\n"
    )
    answer = checkout.python(starter)
    assert answer.stdout.splitlines() == [
        "training ended with status 1: too few pairs (x.log)",
        "training ended with status 3: it printed nothing (x.log)",
    ]


def test_a_second_program_with_the_same_log_waits_for_the_end_of_the_first(checkout: Checkout):
    program = "import sys, time; print('begins', flush=True); time.sleep(0.5); print('ends', flush=True)"
    starter = (
        "from pathlib import Path; from lib import launch; import sys\n"
        f"both = [launch.start([sys.executable, '-c', {program!r}], Path('x.log')) for _ in range(2)]\n"
        "print([one.wait() for one in both])\n"
    )
    assert checkout.python(starter).stdout == "[0, 0]\n"
    said = [line for line in (checkout.root / "x.log").read_text().splitlines() if not line.startswith("$ ")]
    assert said == ["begins", "ends", "begins", "ends"]
