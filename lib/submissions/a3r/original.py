"""The authors' own training runs: extracted from the published logs once, kept as numbers, drawn beside ours without the logs.

`published_runs.json` holds what `extract_published_runs` finds in the published files; a test with the real
files extracts it again and compares. Numbers only: no captions, no pictures, no weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from lib import files
from lib.curves import RunCurves, curves_from_record, read_run_folder

PUBLISHED_RUNS = Path(__file__).parent / "published_runs.json"
BEST = "best-result-review"
SETTINGS = ("model", "pretrained", "train_data", "val_data", "csv_separator", "batch_size", "lr", "warmup", "epochs", "precision")
COLUMNS = ("step", "epoch", "loss", "lr", "scale", "samples_per_second")


def extract_published_runs(folder: Path) -> dict:
    """Every published run below `folder` (best-result-review and logs/*) in a line each, and the curves of the best one.

    Raises MissingInput if one of them is no run folder, DataError if the logs are not there at all.
    """
    others = sorted(path for path in (folder / "logs").iterdir() if path.is_dir()) if (folder / "logs").is_dir() else []
    runs = {str(path.relative_to(folder)): read_run_folder(path) for path in (folder / BEST, *others)}
    best = runs[BEST]
    return {
        "about": "numbers read from the out.log, params.txt, results.jsonl and TensorBoard files published with a3r",
        "runs": [_line(name, run) for name, run in runs.items()],
        "best": {
            "name": best.name,
            "params": {name: best.params[name] for name in SETTINGS},
            "samples_per_epoch": best.samples_per_epoch,
            "steps_per_epoch": best.steps_per_epoch,
            "times": list(best.times or ()),
            "state": best.state,
            "evidence": best.evidence,
            # By columns: as 520 objects the names of the fields would take more room than the numbers.
            "train": {column: [_short(getattr(point, column)) for point in best.train] for column in COLUMNS},
            "validations": [
                {
                    "epoch": found.epoch,
                    "metrics": {name: _short(value) for name, value in found.metrics.items()},
                    "source": found.source,
                }
                for found in best.validations
            ],
        },
    }


def _line(name: str, run: RunCurves) -> dict:
    """What became of one run, with its settings and last validation."""
    last = run.validations[-1] if run.validations else None
    return {
        "folder": name,
        "state": run.state,
        "evidence": run.evidence,
        "times": list(run.times or ()),
        "samples_per_epoch": run.samples_per_epoch,
        "steps_logged": len(run.train),
        "validations": len(run.validations),
        "last_validation": {name: _short(value) for name, value in last.metrics.items()} if last else None,
        "damaged_lines": run.damaged,
        **{name: run.params.get(name) for name in SETTINGS[:5]},
    }


def _short(value: float | None) -> float | None:
    """Seven significant digits: what a float32 of TensorBoard holds."""
    if value is None or isinstance(value, int):
        return value
    rounded = float(f"{value:.7g}")
    return int(rounded) if rounded.is_integer() else rounded


def write_published_runs(folder: Path, path: Path = PUBLISHED_RUNS) -> None:
    """Extract the runs below `folder` and write them, one line per run, column and validation, so that a diff can be read."""
    found = extract_published_runs(folder)
    # json.dumps would put all on one line or every number on its own: neither can be read as a diff.
    best = {name: value for name, value in found["best"].items() if name not in ("train", "validations")}
    parts = [f'{{\n"about": {json.dumps(found["about"])},\n"runs": {_lines(found["runs"])},\n"best": {json.dumps(best)[:-1]},']
    columns = ",\n".join(f'"{name}": {json.dumps(values, separators=(",", ":"))}' for name, values in found["best"]["train"].items())
    parts.append(f'"train": {{\n{columns}\n}},\n"validations": {_lines(found["best"]["validations"])}\n}}\n}}\n')
    files.write_text(path, "\n".join(parts))


def _lines(rows: list[dict]) -> str:
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


def read_published_runs(path: Path = PUBLISHED_RUNS) -> dict:
    """The kept record of all published runs. Raises DataError if the file is damaged."""
    found = files.read_json(path)
    assert isinstance(found, dict), "published_runs.json holds an object"
    return found


def published_curves(record: Mapping | None = None) -> RunCurves:
    """The curves of the best published run, ready for `lib.plots.curves`; from the kept record unless another is given."""
    best = dict((record or read_published_runs())["best"])
    columns = best["train"]
    points = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return curves_from_record({**best, "train": points})
