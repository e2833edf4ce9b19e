"""The settings of a3r: what each means, its unit and what it may be. Values and their sources stand in config.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lib import config
from lib.config import Quirk, Section

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
    """How the tiny base weights are trained (lib.base_weights); their seed is fixed, as published weights are fixed."""

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

    def replaced(self) -> dict[str, Path]:
        """A released checkpoint stands for the result of 04."""
        return {} if self.infer.checkpoint is None else {"finetune": self.infer.checkpoint}
