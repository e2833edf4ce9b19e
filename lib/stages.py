"""The notebooks' front door: open a stage of a run, hand its settings and verbs to the cells, close it with a record.

A notebook run by hand in JupyterLab, by plain papermill, by `python -m lib run` or from a batch script goes through the same
`begin` and `finish` and writes the same record.
"""

import datetime
import importlib
import logging
import os
import shutil
import sys
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from lib import chain, config, files, identity, inputs, paths, runs, runtime, show, store
from lib.chain import Link
from lib.config import Resolved, StageSettings
from lib.errors import ConfigError, RecordError, StageFailed
from lib.records import StageRecord
from lib.runs import Run

logger = logging.getLogger(__name__)

TINY = "Tiny profile: synthetic data and a toy model; the numbers below test the machinery, not the claim."


@dataclass
class _Open:
    """What `finish` has to know about an open stage."""

    link: Link
    place: Path
    started: str
    clock: float
    first_cell: int
    held: ExitStack = field(default_factory=ExitStack)


_open: dict[Path, _Open] = {}


def begin(
    stage: str, submission: str, variant: str, profile: str, run: str, overrides: str | list[str]
) -> tuple[StageSettings, Run, ModuleType]:
    """Open a stage: (its settings, the run, the module with its verbs).

    `run` is "new", "latest" (the newest run with these settings), "best" (07 only: the kept run, read-only) or a run's name.
    Raises ConfigError for unknown names, MissingInput naming the notebook to run first.
    """
    _close_others()
    if run == "best":
        return _begin_kept(stage, submission)
    resolved = config.resolve(submission, variant, profile, overrides)
    chained = _require(resolved, stage)
    link = chained[stage]
    out = _open_place(link)
    folder = _run_folder(resolved, run)
    for name, earlier in chained.items():
        if earlier.record is not None and name != stage:
            runs.attach(folder, name, earlier.place, earlier.record, hit=True)
    opened = Run(
        submission=submission,
        stage=stage,
        profile=profile,
        folder=folder,
        out=out,
        key=link.identity.key,
        stages={name: chained[name].place for name in link.reads if name in chained},
        data=inputs.data_root(resolved) if "data" in link.reads else None,
        base=inputs.base_folder(resolved) if "base" in link.reads else None,
        parent=inputs.parent_folder(resolved) if "parent" in link.reads else None,
        given={name: paths.ROOT / path for name, path in resolved.settings.given(stage).items()},
    )
    if out == link.place:  # a repetition leaves the first result where it is
        runs.detach(folder, stage)
        runs.enter(folder, stage, "running", key=link.identity.key)
    return _hand_over(opened, link, resolved.for_stage(stage, identity.constant(link.module, "SETTINGS")), profile)


def finish(run: Run) -> object:
    """Close the stage: digest what it wrote, write its record last, show it in the run folder. Returns the record for display.

    Raises StageFailed if a cell of the notebook was not run as it is saved, or code changed meanwhile, because the result would be
    filed under other code.
    """
    opened = _open.get(run.out)
    if opened is None:
        raise StageFailed(f"{run.stage} is not open in this kernel; run the notebook from its first cell")
    entry, extra = _cells_run(opened.link, opened.first_cell)
    _check_unchanged(opened.link)
    record = StageRecord(
        submission=run.submission,
        stage=run.stage,
        key=run.key,
        status="done",
        started=opened.started,
        seconds=round(time.monotonic() - opened.clock, 3),
        peak_memory_mib=runtime.peak_memory_mib(),
        entry=entry,
        interactive=extra,
        outputs=store.result_digests(run.out),
        versions=dict(opened.link.identity.environment),
        hardware=runtime.hardware(),
        git={"commit": runtime.git_state(paths.ROOT)["commit"]},
        dropped=dict(run.dropped),
    )
    place, kept = _seal(run, opened, record)
    if run.folder.is_relative_to(paths.log()):  # else it is the kept run, which is only read
        runs.attach(run.folder, run.stage, place, kept, hit=False)
    logger.info("%s done in %.1f s: %d files in %s", run.stage, record.seconds, len(record.outputs), paths.relative(run.folder))
    _close_others()
    return show.record(
        {
            "stage": run.stage,
            "status": kept.status,
            "seconds": record.seconds,
            "key": kept.key[:16],
            "files": sorted(kept.outputs),
        }
    )


def story(stage: str, submission: str) -> str:
    """What this paper does in this stage and why: the paragraph of the submission's story.md, as Markdown."""
    text = files.read_text(config.config_file(submission).with_name("story.md"))
    sections = dict(part.split("\n", 1) for part in ("\n" + text).split("\n## ")[1:])
    if stage not in sections:
        raise ConfigError(f"{submission}: story.md has no section {stage!r}; it has: {', '.join(sections)}")
    return sections[stage].strip()


def _begin_kept(stage: str, submission: str) -> tuple[StageSettings, Run, ModuleType]:
    """Open 07 on the kept run: its folders are read, nothing in it is written."""
    if stage != "quick_review":
        raise ConfigError(f"RUN best is the kept run, which only 07-quick-review reads; {stage} takes new, latest or a run's name")
    folder = runs.kept(submission)
    content = runs.read(folder)
    resolved = config.resolve(submission, content["variant"], content["profile"], content["overrides"])
    module = chain.module_of(submission, stage)
    known = chain.identify(resolved, stage, module, {"kept": store.digest_tree(folder)})
    reads = identity.constant(module, "READS")
    link = Link(submission, stage, module, reads, known)
    places = {name: folder / paths.numbered(name) for name in reads if (folder / paths.numbered(name)).is_dir()}
    opened = Run(submission, stage, resolved.profile, folder, _open_place(link), known.key, places)
    return _hand_over(opened, link, resolved.for_stage(stage, identity.constant(module, "SETTINGS")), resolved.profile)


def _close_others() -> None:
    """Let go of what this kernel has open: a stage that ends, or one never finished (a notebook run again from the top)."""
    for opened in _open.values():
        opened.held.close()
    _open.clear()
    _stop_logging()


def _require(resolved: Resolved, stage: str) -> dict[str, Link]:
    """The chain up to the stage with everything it reads in place; toy data and tiny base weights are made on the way."""
    _log_to_cell()
    earlier = chain.links(resolved, until=stage, by_hand=True)
    chain.require(earlier, stage)
    inputs.prepare(resolved, earlier[stage].reads)
    chained = chain.links(resolved, until=stage, by_hand=True)
    chain.require(chained, stage)
    return chained


def _run_folder(resolved: Resolved, run: str) -> Path:
    if run not in ("new", "latest"):
        folder = runs.named(run, resolved.submission)
        if not folder.is_relative_to(paths.log()):
            raise ConfigError(f"run {run!r} is a kept run, which is only read; use RUN latest, new or the name of a run in log")
        if not runs.same_settings(folder, resolved):
            raise ConfigError(
                f"run {folder.name} was made with other settings than variant {resolved.variant}, profile {resolved.profile}, "
                f"overrides {' '.join(resolved.overrides) or 'none'}; use RUN latest or new, or its own settings"
            )
        return folder
    latest = chain.continuable(resolved) if run == "latest" else None
    return latest or runs.create(resolved)


def _open_place(link: Link) -> Path:
    """Lock the stage's folder, clear what does not count, and return the folder to write to.

    A finished stage is repeated beside its folder and compared by `finish`.
    """
    held, out = ExitStack(), link.place
    # A kernel of the runner finds the lock held by its parent, for it.
    if not held.enter_context(files.lock(out / store.LOCK, wait=False)) and files.holder(out / store.LOCK) != os.getppid():
        raise StageFailed(f"{link.stage} with this identity is being made by another process ({paths.relative(out)}); wait for it")
    if store.finished(out) is not None:
        out = out.with_name(f"{out.name}.again")
        shutil.rmtree(out, ignore_errors=True)
    elif (out / store.RECORD).is_file():
        store.clear(out)
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / store.IDENTITY, link.identity.fields())
    _open[out] = _Open(link, link.place, datetime.datetime.now().isoformat(timespec="seconds"), time.monotonic(), _history_length(), held)
    return out


def _hand_over(run: Run, link: Link, settings: StageSettings, profile: str) -> tuple[StageSettings, Run, ModuleType]:
    module = importlib.import_module(link.module)
    runtime.seed_everything(settings.seed)
    _log_to_cell(run.out / "stage.log")
    logger.info("%s of %s, run %s, key %s", run.stage, run.submission, run.folder.name, run.key[: store.KEY_LENGTH])
    if profile == "tiny":
        logger.info(TINY)
    return settings, run, module


def _seal(run: Run, opened: _Open, record: StageRecord) -> tuple[Path, StageRecord]:
    """Write the record, or, for a stage that was already done, compare: (the place that counts, its record)."""
    if run.out == opened.place:
        store.seal(run.out, record)
        return run.out, record
    older = store.read_record(opened.place)
    if older is None:
        raise RecordError(f"{paths.relative(opened.place)} lost its record while {run.stage} was repeated; run the notebook again")
    differing = sorted(name for name in {*older.outputs, *record.outputs} if older.outputs.get(name) != record.outputs.get(name))
    shutil.rmtree(run.out)
    verdict = f"differs in {', '.join(differing)}; the first result stays" if differing else "gave identical files"
    logger.info("%s was done before; this repetition %s", run.stage, verdict)
    return opened.place, older


def _check_unchanged(link: Link) -> None:
    """Raise StageFailed if the notebook or the library was edited since `begin`: the result would belong to neither code."""
    code = {"notebook": identity.notebook_digest(paths.notebook(link.stage)), "modules": identity.module_digests(link.module)}
    changed = identity.differences(link.identity.fields(), {**link.identity.fields(), **code})
    if changed:
        raise StageFailed(f"{', '.join(changed[:3])} changed while {link.stage} ran; run the stage again")


def _history() -> list[str]:
    """The code cells this kernel ran, oldest first; empty outside IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return [] if shell is None else list(shell.user_ns.get("In", []))


def _history_length() -> int:
    return len(_history())


def _cells_run(link: Link, first: int) -> tuple[str, list[str]]:
    """("notebook" or "python", first lines of cells run beside the notebook's own), from the cell with `begin` on.

    The notebook's cells must all have been run, in order, as they are saved.
    """
    history = _history()
    if not history:
        return "python", ["a Python program, not the notebook"]
    path = paths.notebook(link.stage)
    cells = [cell["source"] for cell in identity.code_cells(path) if not identity.is_blank(cell["source"])]
    start = next(number for number, source in enumerate(cells) if "stages.begin(" in source)
    end = next(number for number, source in enumerate(cells) if "stages.finish(" in source)
    expected, extra = cells[start : end + 1], []
    for source in history[first - 1 :]:
        if expected and identity.same_code(source, expected[0]):
            expected.pop(0)
        elif not identity.is_blank(source) and not identity.same_code(source, cells[end]):  # `finish` may be asked twice
            extra.append(source.strip().partition("\n")[0])
    if expected:
        raise StageFailed(
            f"{paths.relative(path)}: the cell beginning {expected[0].strip().splitlines()[-1]!r} was not run as it is saved; "
            "save the notebook and run all cells"
        )
    return "notebook", extra


def _log_to_cell(log_file: Path | None = None) -> None:
    """Show the library's log lines under the cell and, once the stage is open, keep them in its log."""
    _stop_logging()
    # tqdm, which the hub's client brings along, asks for widgets that a headless notebook cannot show.
    warnings.filterwarnings("ignore", message="IProgress not found")
    library = logging.getLogger("lib")
    library.setLevel(logging.INFO)
    library.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_file is not None:
        handlers.append(logging.FileHandler(log_file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        library.addHandler(handler)


def _stop_logging() -> None:
    library = logging.getLogger("lib")
    for handler in list(library.handlers):
        library.removeHandler(handler)
        handler.close()
