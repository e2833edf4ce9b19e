"""The kernel of the next stage is started while a stage runs: it counts for nothing but time."""

import pytest

from tests.engine.checkout import Checkout, ended, read, wait_until

pytestmark = pytest.mark.engine

COMMAND = ("run", "mini", "--stages", "4-5", "--set", "machine.pause=0.2")
KERNEL = "ipykernel_launcher"


def training(kit: Checkout) -> object:
    """A driver whose training runs."""
    driver = kit.start(*COMMAND)
    wait_until(lambda: kit.processes("mini.training") or driver.poll() is not None, "a training")
    assert driver.poll() is None, ended(driver)
    return driver


def test_two_kernels_run_while_a_stage_has_another_behind_it_and_none_is_left(prepared: Checkout):
    driver = training(prepared)
    wait_until(lambda: len(prepared.processes(KERNEL)) == 2, "a second kernel")
    assert ended(driver).returncode == 0
    assert not prepared.processes()
    assert prepared.run("4-5", *COMMAND[4:]) == {"finetune": "hit", "infer": "hit"}


def test_a_module_edited_while_the_kernel_waits_is_the_one_that_runs(prepared: Checkout):
    driver = training(prepared)
    wait_until(lambda: len(prepared.processes(KERNEL)) == 2, "a second kernel")
    prepared.edit("lib/submissions/mini/infer.py", "def write_predictions", "EDITED = True\n\n\ndef write_predictions")
    prepared.edit(
        "lib/submissions/mini/infer.py", "    predictions =", "    (run.out / 'edited.txt').write_text(str(EDITED))\n    predictions ="
    )
    answer = ended(driver)
    assert answer.returncode == 0, answer.stderr
    assert (prepared.place("infer") / "edited.txt").read_text() == "True"
    assert "edited.txt" in prepared.record("infer")["outputs"]


def test_what_is_wrong_with_a_module_is_said_by_its_notebook(prepared: Checkout):
    prepared.edit("lib/submissions/mini/infer.py", "def write_predictions", "import nowhere\n\n\ndef write_predictions")
    answer = prepared.ask(*COMMAND)
    assert answer.returncode == 1
    assert answer.stderr.startswith("podium: mini infer: ModuleNotFoundError: No module named 'nowhere' [log/.stages/mini/05-infer/")
    assert not prepared.processes()
    assert read(prepared.folder() / "run.json")["stages"]["finetune"]["status"] == "done"
