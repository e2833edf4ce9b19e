"""07, the same for every submission: the published claims against this run's scores, each with a verdict, and the report.

Works from what a run keeps, without torch and without the data set, so that a reviewer can check a kept run in seconds.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from types import ModuleType

from lib import claims, config, files, journal, plots, report, runs, show
from lib.claims import CheckResult, ClaimBook, Reference, Score, Verdict
from lib.config import StageSettings
from lib.report import ReportContent, ReportPicture, StageLine
from lib.runs import Run

READS = ("finetune", "infer", "evaluate")
SETTINGS = ("data_prep", "augmentation", "rounds", "infer", "evaluate")

REPORT = "report.html"


def read_claims(run: Run) -> ClaimBook:
    """The published claims of the run's submission, with the checks of its own tables."""
    return claims.read_claims(config.config_file(run.submission).with_name("claims.yaml"))


def claim_rows(book: ClaimBook) -> list[dict]:
    """The claims as a table: statement, published value with unit, split, source, and how sure the source is."""
    return [
        {
            "claim": one.statement,
            "published": f"{one.value or ''} {one.unit}".strip(),
            "split": one.split,
            "source": one.source,
            "status": one.status,
        }
        for one in book.claims
    ]


def run_checks(book: ClaimBook) -> list[CheckResult]:
    """The consistency checks of the published tables, evaluated now."""
    return claims.run_checks(book)


def read_bands(submission: str) -> list[Reference]:
    """The submission's reference points of the tiny profile, recorded over seeds by `python -m lib reference`; none if not recorded."""
    path = config.config_file(submission).with_name("reference.json")
    return claims.read_references(path) if path.is_file() else []


def read_scores(run: Run) -> list[Score]:
    """The scores that 06 wrote."""
    return claims.read_scores(run.of("evaluate") / "metrics.json")


def rescore(cfg: StageSettings, run: Run) -> list[dict]:
    """The same scores, computed on the spot from the raw predictions: rows of score, recorded, recomputed, equal."""
    recorded = {(row.benchmark, row.metric, row.group, row.model): row.value for row in read_scores(run)}
    again = _submission(run, "evaluate").rescore(run.folder, cfg)
    rows = []
    for row in again:
        key = (row["benchmark"], row["metric"], row["group"], row["model"])
        rows.append(
            {
                "score": " ".join(key),
                "recorded": recorded.get(key),
                "recomputed": row["value"],
                "equal": recorded.get(key) == row["value"],
            }
        )
    return rows


def compare(book: ClaimBook, scores: Sequence[Score], run: Run) -> list[Verdict]:
    """One verdict per claim; in the tiny profile a score is held against the reference points instead of the claim."""
    return claims.judge_all(book, scores, profile=run.profile, references=read_bands(run.submission) if run.profile == "tiny" else [])


def show_curves(run: Run) -> object:
    """Training loss and validation of this run, if it trained, the published run's beside it where the submission has one."""
    published, ours = _published(run), journal.read_training(run.of("finetune")) if "finetune" in run.stages else None
    if published is None and ours is None:
        return show.record({"training": "none in this run, released weights answered"})
    return plots.curves(published, ours)


def show_controls(scores: Sequence[Score], run: Run) -> object:
    """The scores over all items beside their controls and, in the tiny profile, the reference band."""
    return plots.scores_with_controls(_main_rows(scores), _bands(run))


def show_samples(run: Run) -> list[tuple[str, object]]:
    """(query, its first pictures) for the samples that 05 kept."""
    from PIL import Image

    folder = run.of("infer") / "samples"
    shown = []
    for row in files.read_json(folder / "samples.json"):
        found = [Image.open(folder / name) for name in row["pictures"]]
        captions = row.get("captions") or [f"rank {place}" for place in range(1, len(found) + 1)]
        shown.append((row["text"], plots.picture_grid(found, captions, columns=len(found))))
    return shown


def write_review(verdicts: Sequence[Verdict], book: ClaimBook, run: Run) -> list[str]:
    """Write claims.json and report.html; returns the names of the files."""
    rows = [
        {"claim": one.claim.id, "published": one.claim.value, "measured": one.measured, "verdict": one.word, "reason": one.reason}
        for one in verdicts
    ]
    files.write_json(run.out / "claims.json", rows)
    report.write_report(run.out / REPORT, build_report(verdicts, book, run))
    return ["claims.json", REPORT]


def build_report(verdicts: Sequence[Verdict], book: ClaimBook, run: Run) -> ReportContent:
    """Everything the report shows, gathered from the run folder."""
    content = runs.read(run.folder)
    scores = read_scores(run)
    values = dict(config.flatten(files.read_yaml(run.folder / "config.yaml")))
    comments = config.value_comments(run.submission)
    samples = [ReportPicture(text, plots.png(figure)) for text, figure in show_samples(run)]
    figures = {
        "Training loss and validation by epoch, this run and, where there is one, the published run.": show_curves(run),
        "Scores over all queries and their controls.": show_controls(scores, run),
    }
    return ReportContent(
        title=f"{run.submission}: what this run shows",
        submission=run.submission,
        variant=content["variant"],
        profile=content["profile"],
        run=content["name"],
        commit=content["commit"],
        host=content["host"],
        started=content["created"],
        facts={"overrides": " ".join(content["overrides"]) or "none", **content["hardware"]},
        stages=[_stage_line(stage, entry, run) for stage, entry in content["stages"].items()],
        verdicts=verdicts,
        checks=claims.run_checks(book),
        scores=[row.model_dump(include={"benchmark", "metric", "group", "model", "value", "n"}) for row in scores],
        references=read_bands(run.submission) if run.profile == "tiny" else [],
        curves=[ReportPicture(text, plots.png(figure)) for text, figure in figures.items() if not isinstance(figure, show.Shown)],
        samples=samples,
        quirks=[(name, str(value), comments.get(name, "")) for name, value in values.items() if ".quirks." in name],
        versions=_versions(run),
        digests={f"{stage}": entry.get("digest", "") for stage, entry in content["stages"].items() if entry.get("digest")},
    )


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """The samples: queries with their first pictures."""
    return show_samples(run)


def _stage_line(stage: str, entry: Mapping, run: Run) -> StageLine:
    """A stage's line in the report; the stage that writes the report cannot know its own end."""
    status = "writes this report" if stage == run.stage else entry["status"]
    return StageLine(stage, status, entry.get("seconds", 0.0), entry["key"][:16])


def _submission(run: Run, stage: str) -> ModuleType:
    return importlib.import_module(f"lib.submissions.{run.submission}.{stage}")


def _published(run: Run) -> object:
    """The published run's curves, from the numbers kept beside the submission; None where there are none."""
    path = config.config_file(run.submission).with_name("published_runs.json")
    return _submission(run, "original").published_curves() if path.is_file() else None


def _main_rows(scores: Sequence[Score]) -> list[dict]:
    """The scores over all items that were measured on more than one model: those have something to stand against."""
    kept = [row for row in scores if row.group == "all"]
    models = {row.key: {other.model for other in kept if other.key == row.key} for row in kept}
    return [row.model_dump() for row in kept if len(models[row.key]) > 1 and not row.metric.startswith("ceiling")]


def _bands(run: Run) -> Mapping[str, tuple[float, float]]:
    rows = read_bands(run.submission) if run.profile == "tiny" else []
    return {f"{row.benchmark} {row.metric} {row.group}": row.band.limits() for row in rows if row.model == claims.TRAINED}


def _versions(run: Run) -> dict[str, str]:
    """Versions of the packages that made the scores, from the records of the stages."""
    found: dict[str, str] = {}
    for place in run.stages.values():
        path = place / "record.json"
        found |= json.loads(files.read_text(path))["versions"] if path.is_file() else {}
    return found
