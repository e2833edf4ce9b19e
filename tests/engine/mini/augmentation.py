"""02 of mini: every number several times."""

from lib import files
from lib.config import StageSettings
from lib.runs import Run

READS = ("data_prep",)
SETTINGS = ()


def write_samples(cfg: StageSettings, run: Run) -> list[int]:
    """Write the copies."""
    kept = files.read_json(run.of("data_prep") / "samples.json")
    copies = [number for number in kept for _ in range(cfg.augmentation.copies)]
    files.write_json(run.out / "samples.json", copies)
    return copies
