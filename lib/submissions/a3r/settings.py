"""The settings of a3r: what each means, its unit and what it may be. Values and their sources stand in config.yaml."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lib import config
from lib.config import Quirk, Section
from lib.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Toy(Section):
    """Pictures per split of the toy data set, and how many vehicle brands occur in it."""

    train_vehicles: Positive
    train_pedestrians: Positive
    val_vehicles: Positive
    val_pedestrians: Positive
    test_vehicles: Positive
    test_pedestrians: Positive
    brands: Positive


class Counts(Section):
    """Rows of a training table: vehicles and pedestrians."""

    vehicles: Positive
    pedestrians: Positive


class Data(Section):
    """Which data: the published ones under data/a3r, or toy data made on the spot."""

    source: Literal["published", "toy"]
    toy: Toy | None
    train_rows: Counts | None  # expected after data_prep; a difference is reported
    val_rows: Counts | None


class Base(Section):
    """How the tiny base weights are trained; their seed is fixed, as published weights are fixed."""

    family: ClassVar[str] = "open_clip"
    program: ClassVar[str] = "lib.base_open_clip"

    seed: Annotated[int, Field(ge=0)]
    steps: Positive
    batch: Positive
    lr: Annotated[float, Field(gt=0)]
    warmup: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]


class Model(Section):
    """The OpenCLIP model and the weights that the run starts from."""

    name: str  # a model of open_clip, or the name given to `architecture`
    pretrained: str  # an open_clip tag; "base" for weights trained here
    parameters: Positive | None  # for the plan's estimate of memory; None in tiny
    architecture: dict | None  # an open_clip model config, for a model that open_clip does not know
    base: Base | None


class DataPrepQuirks(Section):
    """Defects of the published scripts: the last character of every attribute cut, dot or not."""

    final_dot: Quirk


class DataPrep(Section):
    """Splitting labels and routing queries."""

    routing: Literal["substring", "whole_words"]
    quirks: DataPrepQuirks


class Augmentation(Section):
    """Zero-shot completion of vehicle captions."""

    enabled: bool
    convention: Literal["shipped", "readme", "asis"]
    batch_size: Positive


class Finetune(Section):
    """Contrastive fine-tuning by open_clip's own trainer."""

    batch_size: Positive
    accum_freq: Positive
    lr: Annotated[float, Field(gt=0)]
    wd: Annotated[float, Field(ge=0)]
    beta1: Share
    beta2: Share
    eps: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    epochs: Positive  # length of the schedule
    use_epoch: Positive  # the checkpoint that is used; training stops there
    precision: Literal["fp32", "amp", "amp_bf16"]
    loss: Literal["clip", "siglip"]
    padding: Literal["as_published", "exact", "none"]
    grad_checkpointing: bool
    grad_clip_norm: Annotated[float, Field(gt=0)] | None
    int8: Literal["none", "SwitchBackLinearGlobal", "SwitchBackLinearGlobalMemEfficient"]
    lock_image: bool
    lock_text: bool
    save_frequency: Positive
    log_every: Positive
    processes: Positive
    soup: Literal["none", "uniform", "greedy"]
    soup_epochs: list[Positive]  # the checkpoints that go into a soup

    @model_validator(mode="after")
    def _choose_saved_epochs(self) -> Self:
        """Refuse a checkpoint that will not be saved before anything starts, not after the hours of training."""
        if self.use_epoch > self.epochs:
            raise ConfigError(f"finetune.use_epoch is {self.use_epoch}, the schedule has {self.epochs} epochs; it must be one of them")
        saved = [epoch for epoch in range(1, self.use_epoch + 1) if epoch % self.save_frequency == 0 or epoch == self.epochs]
        for name, wanted in (("use_epoch", [self.use_epoch]), ("soup_epochs", self.soup_epochs if self.soup != "none" else [])):
            absent = [epoch for epoch in wanted if epoch not in saved]
            if absent:
                raise ConfigError(
                    f"finetune.{name} names epoch {absent[0]}, of which no checkpoint is saved; with save_frequency {self.save_frequency} "
                    f"and use_epoch {self.use_epoch} there are: {', '.join(map(str, saved)) or 'none'}"
                )
        return self


class InferQuirks(Section):
    """Defects of the published inference: the last character of a query cut; re-ranking's sign, neighbour lists and range."""

    final_dot: Quirk
    reranking: Quirk


class Infer(Section):
    """Ranking the gallery for every query."""

    checkpoint: Path | None  # a released epoch_N.pt or safetensors to start from instead of 04's result
    query: Literal["plain", "strip", "suffix"]  # what a vehicle query's text becomes
    gallery: Literal["all", "routed"]  # every picture, or those of the query's class by file name
    padding: Literal["as_published", "exact", "none"]
    top_k: Positive
    rerank: Literal["none", "embedded", "quantified"]
    candidates: Positive  # names per query that re-ranking reorders
    adapt_from: Positive  # first candidates that make the adapted query
    neighbours: Positive
    quirks: InferQuirks


class EvaluateQuirks(Section):
    """Defect of the published merge: vehicles first instead of the order of test_text.txt."""

    merge_order: Quirk


class Evaluate(Section):
    """Scores: mAP@k over queries."""

    k: Positive
    denominator: Literal["relevant", "min(relevant, k)"]  # what recall is divided by
    quirks: EvaluateQuirks


class Machine(Section):
    """What changes the speed and not the result."""

    workers: Annotated[int, Field(ge=0)]
    image_batch: Positive
    text_batch: Positive
    memory_mib: Positive  # for the blocks of the similarity matrix
    shards: Positive  # processes that encode the gallery


class Settings(config.Settings):
    """All sections of a3r."""

    data: Data
    model: Model
    data_prep: DataPrep
    augmentation: Augmentation
    finetune: Finetune
    infer: Infer
    evaluate: Evaluate
    machine: Machine

    @model_validator(mode="after")
    def _ask_for_enough_names(self) -> Self:
        """Refuse to call a score mAP@k that saw fewer than k names."""
        if self.infer.top_k < self.evaluate.k:
            raise ConfigError(
                f"infer.top_k is {self.infer.top_k}, evaluate.k {self.evaluate.k}; mAP@{self.evaluate.k} needs as many names per query"
            )
        return self

    def replaced(self) -> dict[str, Path]:
        """A released checkpoint stands for the result of 04."""
        return {} if self.infer.checkpoint is None else {"finetune": self.infer.checkpoint}
