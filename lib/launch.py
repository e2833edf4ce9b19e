"""Start a training program as a child: one process or torchrun, its output in a file, never outliving the one who asked for it.

The notebook does not train in its kernel: the same program runs under one process, `torchrun` or Slurm, and a kernel that dies takes
it along (ecosystem.md, conclusion 2: papermill alone leaves it running).
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from lib import paths
from lib.errors import StageFailed

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.2
TAIL_LINES = 12

# Runs before the program itself: ask the system to kill this process with its parent (PR_SET_PDEATHSIG = 1), then become the program.
_TIED = (
    "import ctypes, os, sys; "
    "ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def command(module: str, arguments: list[str], *, processes: int) -> list[str]:
    """The command line that runs `python -m module arguments` in that many processes on this machine."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*torchrun, "-m", module, *arguments]


def start(command_line: list[str], log_file: Path) -> subprocess.Popen:
    """Start the program in a process group of its own, tied to this process, both its outputs appended to the file."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    tied = [sys.executable, "-S", "-c", _TIED, str(os.getpid()), *command_line]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log_file.open("ab") as output:
        return subprocess.Popen(
            tied, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=paths.ROOT, env=environment
        )


def run(command_line: list[str], log_file: Path, *, watch: Callable[[], str] | None = None) -> float:
    """Run the program to its end and return the seconds it took.

    `watch` is asked every few seconds for a progress line, logged when it changes. Raises StageFailed with the end of the log if the
    program fails; whatever interrupts this function ends the program's whole process group first.
    """
    began = time.monotonic()
    child = start(command_line, log_file)
    last = ""
    try:
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            line = watch() if watch else ""
            if line != last:
                logger.info(line)
                last = line
        wait(child, log_file, what=" ".join(command_line[1:4]))
    finally:
        stop(child)
    return time.monotonic() - began


def wait(child: subprocess.Popen, log_file: Path, *, what: str) -> None:
    """Wait for the program to end. Raises StageFailed, naming it, with the end of its log if it fails."""
    if child.wait():
        raise StageFailed(f"{what} ended with status {child.returncode}: {_last_line(log_file)} ({paths.relative(log_file)})")


def stop(child: subprocess.Popen) -> None:
    """End the child's process group: ask first (SIGTERM), insist after a while (SIGKILL). Nothing happens if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def tail(log_file: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    with log_file.open(encoding="utf-8", errors="replace") as stream:
        return "".join(deque(stream, maxlen=lines))


def _last_line(log_file: Path) -> str:
    """The last line that says something: what a failed program printed at its end."""
    return next((line.strip() for line in reversed(tail(log_file).splitlines()) if line.strip()), "it printed nothing")
