"""A full disk gives one clear line, loses nothing, and the same command goes on once there is space."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import files
from lib.errors import DiskFull
from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout

LINE = "no space left on this disk; free some and give the same command again, finished work is kept"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes the first bytes of a file and no more."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fail)


def test_a_write_to_a_full_disk_says_where_and_leaves_the_older_file_and_no_other(tmp_path: Path, full: None):
    path = tmp_path / "kept.json"
    path.write_text("older")
    with pytest.raises(DiskFull) as raised:
        files.write_json(path, {"newer": 1})
    assert str(raised.value) == f"{tmp_path}: {LINE}"
    assert path.read_text() == "older"
    assert [one.name for one in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, os.strerror(errno.EIO)), KeyboardInterrupt()], ids=["failed", "interrupted"])
def test_a_write_that_ends_for_another_reason_keeps_its_own_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(type(error)) as raised:
        files.write_text(tmp_path / "one.txt", "text")
    assert raised.value is error
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    answer = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {answer.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Fill the disk up to that many bytes; returns the file that does it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        while True:
            try:
                stream.write(bytes(4096))
            except OSError:
                break
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


@pytest.mark.engine
@pytest.mark.parametrize("leave", [0, 32768], ids=lambda size: f"{size // 1024}KiB-free")
def test_a_run_on_a_full_disk_fails_in_one_line_and_goes_on_once_there_is_space(
    finished_kit: Checkout, tmp_path: Path, small_disk: Path, leave: int
):
    kit = checkouts.make(tmp_path / "kit", PODIUM_LOG=str(small_disk / "log"), PODIUM_DATA=str(tmp_path / "data"))
    shutil.copytree(finished_kit.root / "data", tmp_path / "data")
    kit.log.mkdir()
    ballast = fill(small_disk, leave=leave)
    answer = kit.ask("run", "mini", "--stages", "1")
    assert answer.returncode == 1, answer.stdout
    assert len(answer.stderr.splitlines()) == 1 and LINE in answer.stderr, answer.stderr
    assert not kit.processes()
    assert all(checkouts.read(path)["cells"] for path in kit.log.glob(".stages/mini/*/*/notebook.ipynb"))
    ballast.unlink()
    # With a little space the record is written and only the executed notebook is not: that result counts.
    assert kit.run("1") in ({"data_prep": "done"}, {"data_prep": "hit"})
    assert kit.record("data_prep")["outputs"] == finished_kit.record("data_prep")["outputs"]
    left = [path for path in kit.log.rglob(".*") if path.is_file() and not path.name.endswith("lock") and path.name != ".digests.json"]
    assert not left, "temporary files are gone"


@pytest.mark.engine
def test_a_disk_that_fills_up_during_training_keeps_the_checkpoint(finished_kit: Checkout, prepared: Checkout, small_disk: Path):
    shutil.copytree(prepared.log, small_disk / "log", symlinks=True)
    kit = Checkout(prepared.root, {"PODIUM_LOG": str(small_disk / "log")})
    command = ("run", "mini", "--stages", "4", "--set", "machine.pause=0.1")
    driver = kit.start(*command)
    state = ".stages/mini/04-finetune/*/checkpoints/state.json"
    checkouts.wait_until(lambda: any(kit.log.glob(state)) or driver.poll() is not None, "a checkpoint")
    ballast = fill(small_disk)
    answer = checkouts.ended(driver)
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1 and LINE in answer.stderr, answer.stderr
    ballast.unlink()
    assert kit.ask(*command).returncode == 0
    log = (kit.place("finetune") / "train.log").read_text()
    assert log.count("starts at step 0\n") <= 1 and "starts at step 4\n" in log
    assert kit.record("finetune")["outputs"] == finished_kit.record("finetune")["outputs"]
