"""The command line: python -m lib list | show | plan | run | review | verify | compare | keep | ablate | reference.

Exit status 0; 1 with one line on stderr that names the thing, the value, what would be right and the next step; 2 for wrong usage.
Only this module and `lib.console` print.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib import chain, config, inputs, paths, runs
from lib.errors import KitError

TICK, CROSS = "x", "-"
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except KitError as error:
        print(f"podium: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # NOTE: an interrupt inside a string that runs, as in the making of a dataclass, leaves a mark by which `python -m` ends as if
        # killed, whatever the status; running another string takes it away (CPython 3.11, run_eval_code_obj in pythonrun.c).
        exec("")  # noqa: S102 - an empty string
        print("podium: interrupted; the same command continues where it stopped", file=sys.stderr)
        return INTERRUPTED


def list_submissions(options: argparse.Namespace) -> int:
    """The matrix of stages and submissions, its variants and profiles, and whether a best run is kept."""
    _print_table(matrix_rows())
    print(f"\n{TICK} stage of its own   {CROSS} handed on by the shared stage")
    return 0


def matrix_rows() -> list[dict[str, str]]:
    """One row per submission: a tick for each stage of its own, its variants, and whether a run is kept."""
    rows = []
    for name in config.submissions():
        own = {stage: TICK if chain.module_of(name, stage).startswith("lib.submissions") else CROSS for stage in paths.STAGES[:-1]}
        is_kept = (paths.best() / name / runs.RUN_FILE).is_file()
        variants = " ".join(["base", *config.layers(name)["variants"]])
        rows.append({"submission": name, **own, "variants": variants, "kept run": "yes" if is_kept else "no"})
    return rows


def show_settings(options: argparse.Namespace) -> int:
    """The resolved settings of a submission or of one of its sections, with the source of each value."""
    resolved = _resolve(options, options.submission)
    comments = config.value_comments(options.submission)
    values = dict(config.flatten(resolved.values()))
    shown = {key: value for key, value in values.items() if options.section in (None, key.partition(".")[0])}
    if not shown:
        sections = ", ".join(dict.fromkeys(key.partition(".")[0] for key in values))
        raise config.ConfigError(f"{options.submission} has no section {options.section!r}; it has: {sections}")
    print(paths.relative(config.config_file(options.submission)))
    rows = [
        {
            "setting": key,
            "value": value,
            "from": resolved.sources.get(key, resolved.sources.get(key.rpartition(".")[0], "")),
            "source": comments.get(key, ""),
        }
        for key, value in shown.items()
    ]
    _print_table(rows)
    return 0


def show_plan(options: argparse.Namespace) -> int:
    """Per stage: hit, run or resume, and why; what has to be brought first; memory, disk and hours. Starts nothing."""
    from lib import plan

    status = 0
    for name in options.submissions or config.submissions():
        resolved = _resolve(options, name)
        print(f"{name}, variant {resolved.variant}, profile {resolved.profile}")
        _print_table([vars(row) for row in plan.stages(resolved)])
        costs = plan.costs(resolved, gpus=options.gpus)
        if costs:
            print("\nestimated, before anything starts:")
            _print_table([vars(cost) for cost in costs])
        for line in inputs.missing(resolved):
            print(f"missing: {line}")
            status = 1
        print()
    return status


def run_submissions(options: argparse.Namespace) -> int:
    """Run the stages of one submission or several, and end in their claims tables."""
    from lib import console

    names = options.submissions or config.submissions()
    for name in names:
        _check_ready(_resolve(options, name))
    if options.jobs > 1 and len(names) > 1:
        return console.run_in_parallel(names, _forwarded(options), options.jobs)
    folders = []
    for name in names:
        folders.append(console.run_rounds(_resolve(options, name), _stages(options.stages), new=options.new, tag=options.tag))
    for folder in folders:
        _print_review(folder)
    return 0


def review(options: argparse.Namespace) -> int:
    """The claims table of a submission: from its kept run, or from the run named."""
    _print_review(runs.named(options.run) if options.run else runs.kept(options.submission))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Re-hash a run's files and recompute its scores."""
    from lib import review as reviewing

    folder = runs.named(options.run)
    findings = reviewing.verify(folder)
    for finding in findings:
        print(f"{'holds ' if finding.holds else 'BROKEN'}  {finding.what}")
    broken = [finding for finding in findings if not finding.holds]
    if broken:
        raise runs.RecordError(f"{folder.name} does not verify: {len(broken)} of {len(findings)} findings are broken; see above")
    print(f"{folder.name} verifies: {len(findings)} findings hold")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Settings and scores of two runs side by side."""
    from lib import review as reviewing

    one, other = runs.named(options.run_a), runs.named(options.run_b)
    for line in reviewing.different_settings(one, other) or ["the same settings"]:
        print(line)
    print()
    _print_table(reviewing.compare(one, other))
    return 0


def keep(options: argparse.Namespace) -> int:
    """Copy a run into best-result-review/."""
    from lib import review as reviewing

    target = reviewing.keep(runs.named(options.run))
    print(f"kept in {paths.relative(target)}; python -m lib verify {target.name} checks it")
    return 0


def ablate(options: argparse.Namespace) -> int:
    """Run ablations of a submission (named ones, values of a setting, default: all named) beside the unchanged run."""
    from lib import console

    known = config.layers(options.submission)["ablations"]
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise config.ConfigError(f"{options.submission} has no ablation {unknown[0]!r}; it has: {', '.join(known)}")
    chosen = options.names or ([] if options.vary else list(known))
    wanted = {console.UNCHANGED: [], **{name: known[name] for name in chosen}}
    for text in options.vary:
        key, _, values = text.partition("=")
        wanted |= {f"{key}-{value}".replace("_", "-"): [f"{key}={value}"] for value in values.split(",")}
    resolved = {
        name: config.resolve(options.submission, options.variant, options.profile, [*options.set, *changes])
        for name, changes in wanted.items()
    }
    _print_table(console.run_ablations(resolved))
    return 0


def record_reference(options: argparse.Namespace) -> int:
    """Run the tiny profile over several seeds and record the values as the submission's reference points."""
    from lib import console

    target = console.record_reference(options.submission, _seeds(options.seeds), options.controls)
    print(f"recorded in {paths.relative(target)}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` to its function."""
    parser = argparse.ArgumentParser(
        prog="python -m lib", description="Reproduce a submission end to end and see whether its numbers hold."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable, *arguments: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__.splitlines()[0], description=function.__doc__)
        for argument in arguments:
            sub.add_argument(argument, nargs="*" if argument in ("submissions", "names") else "?" if argument == "section" else None)
        sub.set_defaults(command=function)
        return sub

    command("list", list_submissions)
    _settings(command("show", show_settings, "submission", "section"))
    planned = _settings(command("plan", show_plan, "submissions"))
    planned.add_argument("--gpus", type=int, default=1, help="GPUs the estimate is for")
    started = _settings(command("run", run_submissions, "submissions"))
    started.add_argument("--stages", default="1-7", help="a stage by number or name, or a range such as 4-7")
    started.add_argument("--new", action="store_true", help="make a new run folder even if one can be continued")
    started.add_argument("--tag", default="", help="last part of the run folder's name; a run of another name is not continued")
    started.add_argument("--jobs", type=int, default=1, help="submissions run at the same time")
    reviewed = command("review", review, "submission")
    reviewed.add_argument("--run", default="", help="a run's name instead of the kept run")
    command("verify", verify, "run")
    command("compare", compare, "run_a", "run_b")
    command("keep", keep, "run")
    varied = _settings(command("ablate", ablate, "submission", "names"))
    varied.add_argument("--vary", action="append", default=[], metavar="KEY=V1,V2", help="one run per value of a setting")
    recording = command("reference", record_reference, "submission")
    recording.add_argument("--seeds", default="0-4", help="first-last")
    recording.add_argument(
        "--controls", nargs="*", default=[], metavar="ABLATION", help="named ablations that are run on every seed as well"
    )
    return parser


def _settings(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--variant", default="base", help="a recipe of the submission")
    parser.add_argument("--profile", default="tiny", help="tiny (this machine) or full (the published recipe)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, such as finetune.lr=1e-4")
    return parser


def _resolve(options: argparse.Namespace, submission: str) -> config.Resolved:
    return config.resolve(submission, options.variant, options.profile, options.set)


def _check_ready(resolved: config.Resolved) -> None:
    """Refuse to start a run whose data or weights have to be brought first."""
    lines = inputs.missing(resolved)
    if lines:
        command = f"python -m lib plan {resolved.submission} --profile {resolved.profile}"
        raise inputs.MissingInput(f"{resolved.submission}: {lines[0]} is missing ({len(lines)} in all); {command} lists them")


def _stages(text: str) -> tuple[str, ...]:
    """Stages of "4", "4-7" or "finetune". Raises ConfigError with the known names."""
    if text.replace("-", "_") in paths.STAGES:
        return (text.replace("-", "_"),)
    first, _, last = text.partition("-")
    numbers = range(1, len(paths.STAGES) + 1)
    if not (
        first.isdecimal()
        and (last or first).isdecimal()
        and int(first) in numbers
        and int(last or first) in numbers
        and int(first) <= int(last or first)
    ):
        raise config.ConfigError(
            f"no stages {text!r}; give a number or range from 1 to {len(paths.STAGES)}, or one of: {', '.join(paths.STAGES)}"
        )
    return paths.STAGES[int(first) - 1 : int(last or first)]


def _seeds(text: str) -> list[int]:
    """Seeds of "0-4" or "7". Raises ConfigError."""
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first)):
        raise config.ConfigError(f"no seeds {text!r}; give a range such as 0-4")
    return list(range(int(first), int(last or first) + 1))


def _forwarded(options: argparse.Namespace) -> list[str]:
    """The options of `run` for the processes that run one submission each."""
    given = ["--variant", options.variant, "--profile", options.profile, "--stages", options.stages]
    given += [part for value in options.set for part in ("--set", value)]
    return given + (["--new"] if options.new else []) + (["--tag", options.tag] if options.tag else [])


def _print_review(folder: Path) -> None:
    """The claims table of a run, and where its folder and report are."""
    from lib import review as reviewing
    from lib import show

    content = runs.read(folder)
    print(f"\n{content['submission']}, {content['profile']} profile, run {paths.relative(folder)}")
    if "evaluate" in content["stages"]:
        _print_table([show.verdict_row(verdict) for verdict in reviewing.judge(folder)])
    if (folder / "report.html").exists():
        print(f"report: {paths.relative(folder / 'report.html')}")


def _print_table(rows: Sequence[Mapping]) -> None:
    from lib import show

    print(show.table(rows))


if __name__ == "__main__":
    sys.exit(main())
