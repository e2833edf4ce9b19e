"""Sections that the settings of LLaVA submissions share; each narrows them to what it knows."""

from typing import ClassVar, Literal

from lib.config import Section
from lib.training_plan import Count, Positive, Rate


class Base(Section):
    """How the tiny base weights are trained; their seed is fixed, as published weights are fixed."""

    family: ClassVar[str] = "llava"
    program: ClassVar[str] = "lib.base_llava"

    lessons: Literal["marked", "snapshots"]
    seed: Count
    scenes: Positive
    tower_steps: Positive
    base_steps: Positive
    batch: Positive
    tower_lr: Rate
    base_lr: Rate


class Model(Section):
    """The LLaVA model and the weights that the run starts from."""

    name: str
    pretrained: str
    parameters: Positive | None  # for the plan's estimate of memory; None in tiny
    architecture: dict | None  # {"vision": CLIPVisionConfig, "text": LlamaConfig}, for a model made here
    base: Base | None
