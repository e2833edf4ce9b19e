"""The settings of mini."""

from typing import Annotated, Literal

from pydantic import Field

from lib import config
from lib.config import Section

Positive = Annotated[int, Field(gt=0)]


class Toy(Section):
    """How many numbers the toy data hold."""

    numbers: Positive


class Data(Section):
    """Which data."""

    source: Literal["published", "toy"]
    toy: Toy | None


class Base(Section):
    """How base weights would be trained; no stage of mini reads them."""

    steps: Positive


class Model(Section):
    """The model's name and base."""

    name: str
    pretrained: str
    base: Base | None


class DataPrep(Section):
    """Numbers above `largest` are dropped."""

    largest: int


class Augmentation(Section):
    """Copies of each number."""

    copies: Positive


class Finetune(Section):
    """Steps, a checkpoint every `save_every` of them, and how far each goes."""

    steps: Positive
    save_every: Positive
    lr: Annotated[float, Field(gt=0)]
    label: str


class Infer(Section):
    """What is added to a prediction."""

    offset: float


class Evaluate(Section):
    """What an error is multiplied with."""

    scale: float


class Machine(Section):
    """What no result depends on: seconds per step, a step at which a fresh training crashes, processes started on the way."""

    pause: float
    crash_at: int | None
    grandchildren: bool


class Settings(config.Settings):
    """All settings of mini."""

    data: Data
    model: Model
    data_prep: DataPrep
    augmentation: Augmentation
    finetune: Finetune
    infer: Infer
    evaluate: Evaluate
    machine: Machine
