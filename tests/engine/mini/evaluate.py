"""06 of mini: how far the mean prediction is from the mean of the samples."""

from pathlib import Path

from lib import files, paths
from lib.config import StageSettings
from lib.runs import Run

READS = ("data_prep", "infer")
SETTINGS = ()


def write_scores(cfg: StageSettings, run: Run) -> list[dict]:
    """Write the mean of the samples as reference, and the score."""
    samples = files.read_json(run.of("data_prep") / "samples.json")
    files.write_json(run.out / "reference.json", sum(samples) / len(samples))
    scores = score(run.of("infer") / "test.jsonl", run.out / "reference.json", cfg)
    files.write_json(run.out / "metrics.json", {"scores": scores})
    return scores


def rescore(folder: Path, cfg: StageSettings) -> list[dict]:
    """The same scores from what a run folder keeps."""
    return score(folder / paths.numbered("infer") / "test.jsonl", folder / paths.numbered("evaluate") / "reference.json", cfg)


def score(predictions: Path, reference: Path, cfg: StageSettings) -> list[dict]:
    """The distance between the means, one score row."""
    values = [row["prediction"] for row in files.read_jsonl(predictions)]
    distance = cfg.evaluate.scale * abs(sum(values) / len(values) - files.read_json(reference))
    row = {"benchmark": "test", "metric": "distance", "group": "all", "model": "finetuned", "value": distance, "n": len(values)}
    return [row]
