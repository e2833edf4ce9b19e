"""Toy data of mini: a list of numbers."""

import random
from dataclasses import dataclass
from pathlib import Path

from lib import files


@dataclass(frozen=True)
class ToySizes:
    """How many numbers."""

    numbers: int


def write_toy_data(root: Path, seed: int, sizes: ToySizes) -> None:
    """Write `root/datasets/numbers.json`."""
    rng = random.Random(seed)
    files.write_json(root / "datasets" / "numbers.json", [rng.randrange(100) for _ in range(sizes.numbers)])
