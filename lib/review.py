"""Looking at finished runs: keep one, verify one, compare two, and the claims table of a submission. No torch needed."""

import importlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib import chain, claims, config, files, identity, paths, quick_review, runs, show, store
from lib.claims import Verdict
from lib.config import Resolved, StageSettings
from lib.errors import MissingInput, RecordError
from lib.runs import Run

KEPT = "kept.json"
LARGEST_KEPT_FILE = 2 * 2**20  # larger weights and annotations stay behind
KEPT_TRACES = ("params.txt", "out.log", "training.jsonl", "tensorboard", "checkpoints/results.jsonl")
# A recomputed score may differ in the last bits of a float on another machine; anything visible is a difference.
SAME = 1e-9


@dataclass(frozen=True)
class Finding:
    """One thing `verify` looked at: whether it holds, and what was found."""

    holds: bool
    what: str


def settings_of(folder: Path) -> Resolved:
    """The settings a run was made with, read from its own record."""
    content = runs.read(folder)
    return config.resolve(content["submission"], content["variant"], content["profile"], content["overrides"])


def verify(folder: Path) -> list[Finding]:
    """Hash every file of the run again and recompute every score from its raw predictions.

    A kept run is compared with its own list of files; files that were too large to keep are named, not held against it.
    """
    content = runs.read(folder)
    findings = []
    left_out = files.read_json(folder / KEPT)["left_out"] if (folder / KEPT).is_file() else {}
    if (folder / KEPT).is_file():
        kept = files.read_json(folder / KEPT)["files"]
        changed = store.changed_files(folder, kept, rehash=True)
        extra = sorted(set(_names(folder)) - set(kept) - {KEPT})
        findings.append(Finding(not changed, f"{len(kept)} kept files re-hashed; changed or missing: {', '.join(changed) or 'none'}"))
        findings.append(Finding(not extra, f"files that nobody kept: {', '.join(extra) or 'none'}"))
    for stage, entry in content["stages"].items():
        findings.append(_verify_stage(folder, stage, entry, left_out))
    needed = [stage for stage in paths.STAGES if stage not in settings_of(folder).settings.replaced()]
    missing = [stage for stage in needed if stage not in content["stages"]]
    findings.append(Finding(not missing, f"stages without a result: {', '.join(missing) or 'none'}"))
    findings += _verify_scores(folder)
    return findings


def keep(folder: Path) -> Path:
    """Copy a finished run into best-result-review/<submission>, without results above 2 MB. Returns the kept folder.

    Raises RecordError if the run is not complete, was made with cells of one's own, or does not verify.
    """
    content = runs.read(folder)
    failed = [finding.what for finding in verify(folder) if not finding.holds]
    if failed:
        raise RecordError(f"{folder.name} cannot be kept, it does not verify: {failed[0]}")
    target = paths.best() / content["submission"]
    draft = target.with_name(f".{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    left_out: dict[str, str] = {}
    for name in (runs.RUN_FILE, "config.yaml"):
        shutil.copy2(folder / name, draft / name)
    for stage in content["stages"]:
        _keep_stage(runs.stage_folder(folder, stage), draft, paths.numbered(stage), left_out)
    for name in ("params.txt", "out.log", "tensorboard"):
        if (folder / name).exists():
            _copy((folder / name).resolve(), draft / name)
    if (folder / "report.html").is_file():
        shutil.copy2(folder / "report.html", draft / "report.html")
    kept = {name: files.sha256_file(draft / name) for name in _names(draft)}
    files.write_json(draft / KEPT, {"run": folder.name, "files": kept, "left_out": left_out})
    _put_in_place(draft, target)
    return target


def judge(folder: Path) -> list[Verdict]:
    """The verdict on every claim of the run's submission, from the scores of this run."""
    content = runs.read(folder)
    book = claims.read_claims(config.config_file(content["submission"]).with_name("claims.yaml"))
    scores = claims.read_scores(runs.stage_folder(folder, "evaluate") / "metrics.json")
    references = quick_review.read_bands(content["submission"]) if content["profile"] == "tiny" else []
    return claims.judge_all(book, scores, profile=content["profile"], references=references)


def rescored(folder: Path) -> list[dict]:
    """The run's scores, computed on the spot from its predictions and references."""
    resolved = settings_of(folder)
    evaluate = importlib.import_module(f"lib.submissions.{resolved.submission}.evaluate")
    return evaluate.rescore(folder, stage_settings(resolved, "evaluate"))


def stage_settings(resolved: Resolved, stage: str) -> StageSettings:
    """The settings as the stage sees them."""
    module = chain.module_of(resolved.submission, stage)
    return resolved.for_stage(stage, identity.constant(module, "SETTINGS"))


def compare(one: Path, other: Path) -> list[dict]:
    """Scores of two runs side by side: rows of benchmark, metric, group, model, both values and their difference."""
    tables = [_by_key(runs.stage_folder(folder, "evaluate") / "metrics.json") for folder in (one, other)]
    rows = []
    for key in [*tables[0], *(key for key in tables[1] if key not in tables[0])]:
        first, second = (table.get(key) for table in tables)
        row = dict(zip(("benchmark", "metric", "group", "model"), key, strict=True))
        difference = None if first is None or second is None else second - first
        rows.append({**row, one.name: first, other.name: second, "difference": difference})
    return rows


def different_settings(one: Path, other: Path) -> list[str]:
    """The settings in which two runs differ, as "key: value -> value"."""
    first, second = (dict(config.flatten(files.read_yaml(folder / "config.yaml"))) for folder in (one, other))
    keys = sorted(set(first) | set(second))
    return [f"{key}: {first.get(key, 'absent')} -> {second.get(key, 'absent')}" for key in keys if first.get(key) != second.get(key)]


def find_runs(submissions: str, which: str) -> list[Path]:
    """The run folders to look at: of "all" or the named submissions, the kept one ("best") or the newest ("latest").

    Among "all", submissions without such a run are left out. Raises MissingInput if none is left.
    """
    names = config.submissions() if submissions == "all" else submissions.replace(",", " ").split()
    find = runs.kept if which == "best" else runs.newest_scored
    found = []
    for name in names:
        config.config_file(name)
        try:
            found.append(find(name))
        except MissingInput:
            if submissions != "all" or len(names) == 1:
                raise
    if not found:
        raise MissingInput(f"no {which} run of any submission; make one with: python -m lib run")
    return found


def run_rows(folders: list[Path]) -> list[dict]:
    """What each run is: submission, variant, profile, commit, when, seconds, where, and its report."""
    rows = []
    for folder in folders:
        content = runs.read(folder)
        seconds = sum(entry.get("seconds", 0.0) for entry in content["stages"].values())
        done = sum(entry["status"] == "done" for entry in content["stages"].values())
        report = folder / "report.html"
        rows.append(
            {
                "submission": content["submission"],
                "variant": content["variant"],
                "profile": content["profile"],
                "created": content["created"],
                "commit": content["commit"][:12],
                "stages done": f"{done} of {len(paths.STAGES)}",
                "seconds": round(seconds, 1),
                "folder": paths.relative(folder),
                "report": paths.relative(report) if report.exists() else "",
            }
        )
    return rows


def score_rows(folders: list[Path]) -> list[dict]:
    """The scores over all items that have a control: recorded, recomputed now, and the other models' values beside them."""
    rows = []
    for folder in folders:
        recorded = _by_key(runs.stage_folder(folder, "evaluate") / "metrics.json")
        again = {(row["benchmark"], row["metric"], row["group"], row["model"]): row["value"] for row in rescored(folder)}
        for (benchmark, metric, group, model), value in again.items():
            others = {key[3]: found for key, found in again.items() if key[:3] == (benchmark, metric, group) and key[3] != model}
            if group == "all" and model == claims.TRAINED and others and not metric.startswith("ceiling"):
                name = runs.read(folder)["submission"]
                before = recorded.get((benchmark, metric, group, model))
                rows.append(
                    {
                        "submission": name,
                        "benchmark": benchmark,
                        "metric": metric,
                        "recorded": before,
                        "recomputed": value,
                        **others,
                    }
                )
    return rows


def claim_tables(folders: list[Path]) -> list[tuple[str, object]]:
    """(heading, claims table with verdicts) per run."""
    return [
        (f"{runs.read(folder)['submission']}, {runs.read(folder)['profile']} profile", show.claims(judge(folder))) for folder in folders
    ]


def figures(folders: list[Path]) -> list[tuple[str, object]]:
    """(caption, figure) per run: its curves beside the published ones, its scores with controls, its sample queries."""
    shown = []
    for folder in folders:
        run = as_run(folder)
        shown.append((f"{run.submission}: training curves", quick_review.show_curves(run)))
        shown.append((f"{run.submission}: scores and controls", quick_review.show_controls(quick_review.read_scores(run), run)))
        shown += [(f"{run.submission}: {text}", figure) for text, figure in quick_review.show_samples(run)]
    return shown


def verify_rows(folders: list[Path]) -> list[dict]:
    """What `verify` finds, as a table."""
    return [
        {"submission": runs.read(folder)["submission"], "holds": finding.holds, "finding": finding.what}
        for folder in folders
        for finding in verify(folder)
    ]


def as_run(folder: Path) -> Run:
    """A finished run as the review stage sees it: its folders are read, nothing is written."""
    content = runs.read(folder)
    places = {stage: runs.stage_folder(folder, stage) for stage in content["stages"] if stage != "quick_review"}
    return Run(content["submission"], "quick_review", content["profile"], folder, folder, content["name"], places)


def _verify_stage(folder: Path, stage: str, entry: Mapping, left_out: Mapping[str, str]) -> Finding:
    """One stage: its record is there, is the one run.json names, and its results are what it says."""
    place = folder / paths.numbered(stage)
    record = store.read_record(place) if place.is_dir() else None
    if record is None or entry["status"] != "done":
        return Finding(False, f"{stage}: {entry['status']}, no record of a finished stage")
    if record.key != entry["key"]:
        return Finding(False, f"{stage}: run.json names the key {entry['key'][:12]}, the record {record.key[:12]}")
    if record.interactive:
        return Finding(False, f"{stage}: made with cells beside the notebook's own ({record.interactive[0]!r})")
    here = {name: digest for name, digest in record.outputs.items() if f"{paths.numbered(stage)}/{name}" not in left_out}
    changed = store.changed_files(place, here, rehash=True)
    absent = len(record.outputs) - len(here)
    note = f", {absent} not kept for their size" if absent else ""
    return Finding(not changed, f"{stage}: {len(here)} results re-hashed{note}; changed or missing: {', '.join(changed) or 'none'}")


def _verify_scores(folder: Path) -> list[Finding]:
    try:
        recorded = _by_key(runs.stage_folder(folder, "evaluate") / "metrics.json")
    except MissingInput as error:
        return [Finding(False, str(error))]
    again = {(row["benchmark"], row["metric"], row["group"], row["model"]): row["value"] for row in rescored(folder)}
    different = [
        f"{' '.join(key)} recorded {recorded.get(key)}, recomputed {value}"
        for key, value in again.items()
        if not math.isclose(recorded.get(key, math.inf), value, rel_tol=SAME, abs_tol=SAME)
    ]
    return [Finding(not different, f"{len(again)} scores recomputed from raw predictions; different: {'; '.join(different[:3]) or 'none'}")]


def _by_key(path: Path) -> dict[tuple[str, str, str, str], float]:
    return {(row.benchmark, row.metric, row.group, row.model): row.value for row in claims.read_scores(path)}


def _keep_stage(place: Path, draft: Path, name: str, left_out: dict[str, str]) -> None:
    """Copy a stage's record and its results of at most 2 MB; the executed notebook goes to notebooks/."""
    record = store.read_record(place)
    wanted = [store.RECORD, store.IDENTITY, *(record.outputs if record else []), *KEPT_TRACES]
    for relative in wanted:
        source = place / relative
        if source.is_dir():
            left_out[f"{name}/{relative}"] = f"{len(files.list_files(source))} rendered files"
        if not source.is_file():
            continue
        if source.stat().st_size > LARGEST_KEPT_FILE:
            left_out[f"{name}/{relative}"] = f"{source.stat().st_size} bytes"
            continue
        _copy(source, draft / name / relative)
    if (place / "notebook.ipynb").is_file():
        _copy(place / "notebook.ipynb", draft / "notebooks" / f"{name}.ipynb")


def _put_in_place(draft: Path, target: Path) -> None:
    """Make the draft the target. An older target is set aside, not deleted, until the new one is there, and put back if it cannot be."""
    aside = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        draft.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in files.list_files(folder)]
