"""Where things lie: the fixed top level of the checkout and the names of stages in files and folders.

PODIUM_DATA, PODIUM_LOG and PODIUM_BEST move the data, the runs and the kept runs elsewhere (a large disk, a test's own folder).
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SUBMISSIONS = ROOT / "lib" / "submissions"

# The stages in the order in which they hand on their work (design: stage x submission).
STAGES = ("data_prep", "augmentation", "block_expansion", "finetune", "infer", "evaluate", "quick_review")


def data() -> Path:
    """The folder of data sets and base weights."""
    return Path(os.environ.get("PODIUM_DATA", ROOT / "data")).resolve()


def log() -> Path:
    """The folder of runs."""
    return Path(os.environ.get("PODIUM_LOG", ROOT / "log")).resolve()


def best() -> Path:
    """The folder of kept runs, one per submission."""
    return Path(os.environ.get("PODIUM_BEST", ROOT / "best-result-review")).resolve()


def numbered(stage: str) -> str:
    """The stage's name in files and folders: "data_prep" -> "01-data-prep"."""
    return f"{STAGES.index(stage) + 1:02d}-{stage.replace('_', '-')}"


def notebook(stage: str) -> Path:
    """The stage's notebook."""
    return NOTEBOOKS / f"{numbered(stage)}.ipynb"


def relative(path: Path) -> str:
    """The path as a reader of this checkout would type it: relative to its top level where it lies inside."""
    path = path.absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
