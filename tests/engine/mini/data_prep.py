"""01 of mini: read the numbers, drop the large ones."""

from lib import files
from lib.config import StageSettings
from lib.runs import Run

READS = ("data",)
SETTINGS = ()


def write_samples(cfg: StageSettings, run: Run) -> list[int]:
    """Write the numbers that are not too large."""
    numbers = files.read_json(run.data / "datasets" / "numbers.json")
    kept = [number for number in numbers if number <= cfg.data_prep.largest]
    run.drop("too large", len(numbers) - len(kept))
    files.write_json(run.out / "samples.json", kept)
    return kept
