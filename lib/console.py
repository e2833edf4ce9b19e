"""What the command line shows while runs go on: one line per stage with the time left, several submissions at once, ablations."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib import claims, config, launch, paths, runner, runs
from lib.config import Resolved
from lib.errors import StageFailed
from lib.runner import Event

UNCHANGED = "unchanged"  # the run that ablations are compared with


def run_with_lines(resolved: Resolved, stages: tuple[str, ...], *, new: bool = False, tag: str = "") -> Path:
    """Run stages and print a line as each starts, goes on and ends; returns the run folder."""
    print(
        f"{resolved.submission}: variant {resolved.variant}, profile {resolved.profile} {' '.join(resolved.overrides)}".rstrip(),
        flush=True,
    )
    began = time.monotonic()
    folder = runner.run(resolved, stages=stages, new=new, tag=tag, listener=show_event)
    print(
        f"{resolved.submission}: {len(stages)} stages up to date in {time.monotonic() - began:.1f} s, run {paths.relative(folder)}",
        flush=True,
    )
    return folder


def run_rounds(resolved: Resolved, stages: tuple[str, ...], *, new: bool = False, tag: str = "") -> Path:
    """Run stages, then those of every round that follows by the submission's settings; returns the last round's run folder."""
    folder = run_with_lines(resolved, stages, new=new, tag=tag)
    following = resolved.settings.following(folder) if "evaluate" in stages else ()
    if not following:
        return folder
    changed = {part.partition("=")[0] for part in following}
    kept = [part for part in resolved.overrides if part.partition("=")[0] not in changed]
    after = config.resolve(resolved.submission, resolved.variant, resolved.profile, [*kept, *following])
    return run_rounds(after, stages, new=new, tag=tag)


def show_event(event: Event) -> None:
    """Print one event; where the output is a terminal, a running stage keeps to one line."""
    left = "" if event.left is None else f", about {spoken(event.left)} left"
    head = f"  [{event.number}/{event.of}] {event.stage:<15}"
    if event.kind == "tick" and not sys.stdout.isatty():
        return
    texts = {
        "start": f"{head} running{left}",
        "tick": f"{head} {event.seconds:5.0f} s{left} | {event.line}"[:118],
        "hit": f"{head} hit",
        "done": f"{head} done in {event.seconds:.1f} s{left}",
    }
    end = "" if sys.stdout.isatty() and event.kind in ("start", "tick") else "\n"
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    print(f"{clear}{texts[event.kind]}", end=end, flush=True)


def spoken(seconds: float) -> str:
    """A duration for people: "40 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run_in_parallel(names: list[str], options: list[str], jobs: int) -> int:
    """Run each submission in a process of its own, at most `jobs` at a time, and print each one's output when it ends.

    Raises StageFailed naming those that failed; one failure does not stop the others.
    """
    waiting, running, failed = list(names), {}, []
    # All are started and watched from the main thread: it alone hears of Ctrl-C, and what it leaves open ends with it.
    with runner.interruptible(), contextlib.ExitStack() as opened:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                log_file = paths.log() / name / "run.log"
                log_file.unlink(missing_ok=True)
                running[name] = launch.start(launch.command("lib", ["run", name, *options], processes=1), log_file)
                opened.callback(launch.stop, running[name])
            time.sleep(launch.POLL_SECONDS)
            for name in [name for name, child in running.items() if child.poll() is not None]:
                failed += [name] if running.pop(name).returncode else []
                print((paths.log() / name / "run.log").read_text(encoding="utf-8", errors="replace"), flush=True)
    if failed:
        raise StageFailed(f"{', '.join(failed)} did not finish; the lines above say why")
    return 0


def run_ablations(resolved: Mapping[str, Resolved]) -> list[dict]:
    """Run each variant of the settings and return one row per ablation: its name, changes, and the main scores of each benchmark."""
    rows = []
    for name, settings in resolved.items():
        # The unchanged run keeps its own name: it is the one a person made, and goes on with.
        folder = run_rounds(settings, paths.STAGES[:-1], tag="" if name == UNCHANGED else name)
        rows.append({"ablation": name, "changes": " ".join(settings.overrides), **_main_scores(folder), "run": folder.name})
    return rows


def record_reference(
    submission: str, seeds: list[int], controls: Sequence[str], *, run: Callable[[Resolved, tuple[str, ...]], Path] = run_rounds
) -> Path:
    """Run the tiny profile once per seed and write the scores beside the submission's claims as its reference points.

    Of a metric that has a value over everything, that value; of one that is only taken by group, all of them. Each of the `controls`,
    named ablations, is run as well: the scores of its trained model stand under the control's name. Raises ConfigError for fewer than
    five seeds (MLPerf's rule, ecosystem.md section 8) or an unknown ablation.
    """
    if len(seeds) < 5:
        raise config.ConfigError(f"{len(seeds)} seeds; reference points need at least five, as in --seeds 0-4")
    known = config.layers(submission)["ablations"]
    unknown = [name for name in controls if name not in known]
    if unknown:
        raise config.ConfigError(f"{submission} has no ablation {unknown[0]!r}; it has: {', '.join(known) or 'none'}")
    values: dict[tuple[str, str, str, str], list[float]] = {}
    asked = [(seed, name, changes) for seed in seeds for name, changes in [(claims.TRAINED, []), *((one, known[one]) for one in controls)]]
    for seed, name, changes in asked:
        folder = run(config.resolve(submission, overrides=[f"seed={seed}", *changes]), paths.STAGES[:-1])
        scores = claims.read_scores(runs.stage_folder(folder, "evaluate") / "metrics.json")
        for row in scores if name == claims.TRAINED else (score for score in scores if score.model == claims.TRAINED):
            model = row.model if name == claims.TRAINED else name
            values.setdefault((row.benchmark, row.metric, row.group, model), []).append(row.value)
    names = ("benchmark", "metric", "group", "model")
    whole = {(benchmark, metric) for benchmark, metric, group, _ in values if group == "all"}
    references = [
        claims.Reference(**dict(zip(names, key, strict=True)), values=tuple(found), seeds=tuple(seeds))
        for key, found in values.items()
        if len(found) == len(seeds) and (key[2] == "all" or key[:2] not in whole)
    ]
    target = config.config_file(submission).with_name("reference.json")
    claims.write_references(target, references)
    return target


def _main_scores(folder: Path) -> dict[str, float]:
    """The scores over all queries of the model under test and of the base, the first metric of each benchmark."""
    found: dict[str, float] = {}
    first: dict[str, str] = {}
    for row in claims.read_scores(runs.stage_folder(folder, "evaluate") / "metrics.json"):
        metric = first.setdefault(row.benchmark, row.metric)
        if row.group == "all" and row.metric == metric and row.model in (claims.TRAINED, "base"):
            found[f"{row.benchmark} {metric} {row.model}"] = row.value
    return found
