"""03 of mini: nothing to expand, and no base weights to read."""

from lib import files
from lib.runs import Run

READS = ()
SETTINGS = ("model",)


def save_model(run: Run) -> list[str]:
    """Write that nothing was expanded."""
    files.write_json(run.out / "base.json", {"new blocks": 0})
    return ["base.json"]
