"""Run the stages of a submission in order through papermill: skip what is done, resume what broke, stop at the first failure.

Parameters are checked before a kernel starts (papermill runs on with a misspelt one), the kernel is tied to this process, and a
stage counts as done only by its own record (`lib.store`).
"""

import contextlib
import functools
import logging
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import chain, files, identity, inputs, kernels, paths, runs, store
from lib.chain import Link
from lib.config import Resolved
from lib.errors import ConfigError, KitError, StageFailed
from lib.kernels import Kernels
from lib.records import StageRecord

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it says on stderr, StageFailed says in one line
TICK_SECONDS = 5.0
COMPUTING = ("augmentation", "block_expansion", "finetune", "infer")  # stages that use a model


@dataclass(frozen=True)
class Event:
    """Something a person watching a run wants to know; `kind` is "start", "tick", "hit" or "done"."""

    kind: str
    stage: str
    number: int
    of: int
    seconds: float = 0.0
    left: float | None = None
    line: str = ""


Listener = Callable[[Event], None]
KernelOf = Callable[[], contextlib.AbstractContextManager["AsyncKernelManager"]]


def run(
    resolved: Resolved, *, stages: tuple[str, ...] = paths.STAGES, new: bool = False, tag: str = "", listener: Listener = print
) -> Path:
    """Bring the stages up to date and return the run folder; a stage whose result a given file replaces is left out, unless it is all.

    Continues the newest run with these settings (and that tag, if one is given), unless `new` or its results come from other code
    or data; then a new folder is made.
    Raises StageFailed at the first stage that fails; nothing after it is run.
    """
    stages = tuple(stage for stage in stages if stage not in resolved.settings.replaced()) or stages
    chain.require(chain.links(resolved, until=stages[0]), stages[0])  # before a folder is made for nothing
    folder = None if new else chain.continuable(resolved, tag=tag)
    folder = folder or runs.create(resolved, tag=tag)
    with interruptible(), kernels.opened() as waiting:
        for number, stage in enumerate(stages, start=1):
            tell = _teller(listener, stage, number, len(stages), _time_left(resolved, stages[number - 1 :]))
            kernel = functools.partial(_kernel, waiting, resolved.submission, stages[number - 1 : number + 1])
            record, hit = _bring_up_to_date(resolved, stage, folder, kernel, tell)
            left = _time_left(resolved, stages[number:])
            listener(Event("hit" if hit else "done", stage, number, len(stages), record.seconds, left))
    return folder


def expected_seconds(resolved: Resolved, stage: str) -> float | None:
    """How long the stage took last: here with the same profile, or in the kept run; None where there is no such record."""
    for folder in [*reversed(runs.found(resolved.submission)), paths.best() / resolved.submission]:
        content = runs.read(folder) if (folder / runs.RUN_FILE).is_file() else {"profile": ""}
        entry = content["stages"].get(stage, {}) if content["profile"] == resolved.profile else {}
        if entry.get("status") == "done":
            return float(entry["seconds"])
    return None


def check_parameters(notebook: Path, given: dict[str, object]) -> None:
    """Refuse parameters the notebook does not declare in its `parameters` cell: names only, no name can carry code.

    Raises ConfigError that lists the declared ones.
    """
    cell = next((one for one in identity.code_cells(notebook) if "parameters" in one["tags"]), {"source": ""})
    declared = [line.split("=")[0].strip() for line in cell["source"].splitlines() if "=" in line]
    unknown = [name for name in given if name not in declared or not name.isidentifier()]
    if unknown:
        raise ConfigError(f"{paths.relative(notebook)} has no parameter {unknown[0]!r}; it declares: {', '.join(declared)}")


def execute_notebook(notebook: Path, output: Path, parameters: dict[str, object], kernel: KernelOf) -> None:
    """Run a notebook through papermill in the kernel that is opened for it. Raises StageFailed with the error of the failing cell."""
    check_parameters(notebook, parameters)
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        with kernel() as ready:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                kernel_name=kernels.NAME,
                progress_bar=False,
                request_save_on_cell_execute=False,
                km=ready,
            )
    except PapermillExecutionError as error:
        _forget_paths(output)
        what = error.evalue if _is_ours(error.ename) else f"{error.ename}: {error.evalue}"
        raise StageFailed(f"{what.strip().splitlines()[0] if what.strip() else error.ename} [{paths.relative(output)}]") from None
    except DeadKernelError:
        raise StageFailed(
            f"the kernel of {paths.relative(notebook)} was killed, by hand or for want of memory; the same command continues"
        ) from None
    except OSError as error:
        output.unlink(missing_ok=True)  # papermill writes in place: half a notebook may be left
        raise files.disk_full(error, output.parent) from error
    _forget_paths(output)


def _kernel(waiting: Kernels, submission: str, stages: tuple[str, ...]) -> contextlib.AbstractContextManager["AsyncKernelManager"]:
    """The kernel for the first of these stages; meanwhile that of the one behind it, if there is one, is started."""
    return waiting.one(*(_imports(submission, stage) for stage in stages))


def _imports(submission: str, stage: str) -> tuple[str, ...]:
    """The modules that a stage's kernel imports before its turn: the stage's own, and all it may call where it computes."""
    module = chain.module_of(submission, stage)
    return tuple(identity.module_digests(module)) if stage in COMPUTING else (module,)


def _bring_up_to_date(
    resolved: Resolved, stage: str, folder: Path, kernel: KernelOf, tell: Callable[[str, str], None]
) -> tuple[StageRecord, bool]:
    """Run one stage unless it is done: (its record, whether it was a hit). Another process making it is waited for."""
    earlier = chain.links(resolved, until=stage)
    link = chain.require(earlier, stage)
    if link.record is None:
        tell("start", "")
        inputs.prepare(resolved, link.reads)
        link = chain.require(chain.links(resolved, until=stage), stage)
    record, hit = (link.record, True) if link.record is not None else _execute(resolved, link, folder, kernel, tell)
    runs.attach(folder, stage, link.place, record, hit=hit)
    return record, hit


def _execute(resolved: Resolved, link: Link, folder: Path, kernel: KernelOf, tell: Callable[[str, str], None]) -> tuple[StageRecord, bool]:
    """Run the stage's notebook under the lock of its identity: (its record, whether another process had made it meanwhile)."""
    place = link.place
    with files.lock(place / store.LOCK):
        record = store.finished(place)
        if record is not None:
            return record, True
        runs.detach(folder, link.stage)
        parameters = {
            "SUBMISSION": resolved.submission,
            "VARIANT": resolved.variant,
            "PROFILE": resolved.profile,
            "RUN": folder.name,
            "OVERRIDES": shlex.join(resolved.overrides),
        }
        try:
            with _ticking(place / "stage.log", tell):
                execute_notebook(paths.notebook(link.stage), place / "notebook.ipynb", parameters, kernel)
        except KitError as error:
            runs.enter(folder, link.stage, "failed", key=link.identity.key, message=str(error))
            raise StageFailed(f"{link.submission} {link.stage}: {error}") from None
        except KeyboardInterrupt:
            runs.enter(folder, link.stage, "interrupted", key=link.identity.key, message="interrupted; the same command continues")
            raise
        record = store.finished(place)
    if record is None:
        raise StageFailed(
            f"{link.submission} {link.stage}: the notebook ended without closing its record; its last cell calls stages.finish"
        )
    return record, False


def _time_left(resolved: Resolved, stages: tuple[str, ...]) -> float | None:
    times = [expected_seconds(resolved, stage) for stage in stages]
    return None if not times or any(seconds is None for seconds in times) else sum(times)


def _teller(listener: Listener, stage: str, number: int, of: int, left: float | None) -> Callable[[str, str], None]:
    """A function that turns what happens in one stage into events with seconds gone and seconds left."""
    started = time.monotonic()

    def tell(kind: str, line: str) -> None:
        gone = time.monotonic() - started
        listener(Event(kind, stage, number, of, gone, None if left is None else max(left - gone, 0.0), line))

    return tell


def _is_ours(name: str) -> bool:
    from lib import errors

    return isinstance(getattr(errors, name, None), type)


def _forget_paths(output: Path) -> None:
    """Take this machine's paths out of the executed notebook: it may be kept and shown elsewhere."""
    if not output.is_file():
        return
    text = files.read_text(output)
    for folder in (paths.ROOT, sys.prefix):
        text = text.replace(f"{folder}/", "")
    files.write_text(output, text)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that whatever ends a run ends its kernel and training too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _ticking(log_file: Path, tell: Callable[[str, str], None]) -> Iterator[None]:
    """Tell the last line of the stage's log every few seconds while the block runs."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(TICK_SECONDS):
            lines = log_file.read_text(errors="replace").splitlines() if log_file.is_file() else []
            tell("tick", lines[-1] if lines else "")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
