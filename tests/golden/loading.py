"""Reads the recorded cases of the published code from the folder named by GOLDEN_DIR (default: our copies beside this file)."""

import json
import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parent / "cases"


def cases(submission: str, filename: str) -> dict:
    """The content of `<GOLDEN_DIR>/<submission>/<filename>`; skips the test, naming the file, when it is not there."""
    path = Path(os.environ.get("GOLDEN_DIR", DEFAULT)) / submission / filename
    if not path.is_file():
        pytest.skip(f"golden file {submission}/{filename} is missing")
    return json.loads(path.read_text(encoding="utf-8"))
