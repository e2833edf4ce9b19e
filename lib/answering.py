"""Weights that answer: what the infer stages of LLaVA models load, and only when they have to."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.llava import Llava


@dataclass
class Answerer:
    """Weights under test or to compare with: loaded when first needed, since answers of an interrupted run may all be there."""

    name: str
    folder: Path
    precision: str

    @cached_property
    def bundle(self) -> "Llava":
        """The model on this machine's accelerator."""
        from lib import generation

        return generation.load_model(self.folder, self.precision)
