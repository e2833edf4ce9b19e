"""Start a training program as a child: one process or torchrun, its output in a file, never outliving the one who asked for it.

The notebook does not train in its kernel: the same program runs under one process, `torchrun` or Slurm, and a kernel that dies takes
it along (ecosystem.md, conclusion 2: papermill alone leaves it running). Between the two stands a guard, `python -m lib.launch`: it
outlives a killed kernel for the moment it takes to end the program and all that the program started.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.errors import StageFailed
from lib.progress import Bar

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.2
TAIL_LINES = 12
PROMPT = "$ "  # before the command in its log: where an attempt begins
TAIL_BYTES = 2**16  # as much of a log's end is read: a long training's log is looked at several times a second
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

# Runs before the program itself: ask the system to kill this process with its parent (PR_SET_PDEATHSIG = 1), then become the program.
_TIED = (
    "import ctypes, os, sys; "
    "sys.platform.startswith('linux') and ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True)
class Step:
    """How far a program is: steps done, steps in all, and a few words."""

    done: int
    of: int
    note: str = ""


def command(module: str, arguments: list[str], *, processes: int) -> list[str]:
    """The command line that runs `python -m module arguments` in that many processes on this machine."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*torchrun, "-m", module, *arguments]


def tied(command_line: list[str]) -> list[str]:
    """The command line whose process the system kills as soon as the present process ends, however it ends."""
    return [sys.executable, "-S", "-c", _TIED, str(os.getpid()), *command_line]


def start(command_line: list[str], log_file: Path) -> subprocess.Popen:
    """Start the program under a guard in a process group of its own, both its outputs appended to the file.

    The program waits until an earlier one with the same log has ended with all it started: no two ever write in the same place.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    turn = log_file.with_name(f".{log_file.name}.lock")
    guarded = [sys.executable, "-m", "lib.launch", str(os.getpid()), str(turn), *command_line]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log_file.open("ab") as output:
        output.write(f"{PROMPT}{' '.join(command_line)}\n".encode())
        output.flush()
        return subprocess.Popen(
            guarded, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=paths.ROOT, env=environment
        )


def run(command_line: list[str], log_file: Path, *, watch: Callable[[], Step | None], label: str) -> float:
    """Run the program to its end, show its progress under that label, and return the seconds it took.

    `watch` is asked a few times a second how far the program is. Raises StageFailed with the end of the log if the program fails;
    whatever interrupts this function ends the program, and all it started, first.
    """
    began = time.monotonic()
    child = start(command_line, log_file)
    bar: Bar | None = None
    with contextlib.ExitStack() as opened:
        opened.callback(stop, child)
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            step = watch()
            if step is None:
                continue
            bar = bar or opened.enter_context(Bar(label, step.of))
            bar.at(step.done, step.note)
        wait(child, log_file, what=label)
    return time.monotonic() - began


def run_parts(command_lines: Sequence[list[str]], log_files: Sequence[Path], *, what: str) -> None:
    """Run the programs at the same time, each with its own log; the first that fails ends the others. Raises StageFailed naming it."""
    children = [start(line, log_file) for line, log_file in zip(command_lines, log_files, strict=True)]
    try:
        for part, (child, log_file) in enumerate(zip(children, log_files, strict=True), start=1):
            wait(child, log_file, what=f"{what} part {part} of {len(children)}")
    finally:
        for child in children:
            stop(child)


def wait(child: subprocess.Popen, log_file: Path, *, what: str) -> None:
    """Wait for the program to end. Raises StageFailed, naming it, with the end of its log if it fails."""
    if child.wait():
        raise StageFailed(f"{what} ended with status {child.returncode}: {_last_line(log_file)} ({paths.relative(log_file)})")


def stop(child: subprocess.Popen) -> None:
    """Let the guard end its program, and insist if that takes long. Nothing happens if both have ended."""
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2 * GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def tail(log_file: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    with log_file.open("rb") as stream:
        stream.seek(max(0, log_file.stat().st_size - TAIL_BYTES))
        return b"".join(deque(stream, maxlen=lines)).decode("utf-8", errors="replace")


def guard(parent: int, turn: Path, command_line: list[str]) -> int:
    """Run the program, end what it leaves behind, and return its exit status (128 + signal, as shells report it).

    Asked to stop (SIGTERM), or when the process `parent` ends, the program is asked to stop and after a while made to. Orphans of the
    program become children of the guard, so that a data loader or torchrun's worker in a session of its own is found as well.
    """

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:
        return 1
    held = turn.open("a")  # until this process ends
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        child = subprocess.Popen(tied(command_line))
        try:
            status = child.wait()
        except SystemExit:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_SECONDS)
            raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_children()
    return status if status >= 0 else 128 - status


def _end_children() -> None:
    """Kill every child; what a child leaves behind becomes a child in its turn, until none is left."""
    while found := list(_children()):
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for number in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(number, 0)


def _children() -> Iterator[int]:
    """Process ids of the children of this process, from /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything; behind it stand the state and the parent.  (proc_pid_stat(5))
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                yield int(path.parent.name)


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process (Linux only; elsewhere a no-op)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _last_line(log_file: Path) -> str:
    """The last line that says something: what a failed program printed at its end, not what an earlier attempt did."""
    for line in reversed(tail(log_file).splitlines()):
        if line.startswith(PROMPT):
            break
        if line.strip():
            return line.strip()
    return "it printed nothing"


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
