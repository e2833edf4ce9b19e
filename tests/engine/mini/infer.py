"""05 of mini: the weights are the predictions."""

from lib import files
from lib.config import StageSettings
from lib.runs import Run

READS = ("finetune",)
SETTINGS = ()


def write_predictions(cfg: StageSettings, run: Run) -> list[float]:
    """Write the weights plus the offset, one a line."""
    predictions = [weight + cfg.infer.offset for weight in files.read_json(run.of("finetune") / "model" / "weights.json")]
    files.write_jsonl(run.out / "test.jsonl", [{"prediction": value} for value in predictions])
    return predictions
