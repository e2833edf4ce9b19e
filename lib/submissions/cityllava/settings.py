"""The settings of cityllava: what each means, its unit and what it may be. Values and their sources stand in config.yaml."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lib import config, llava_settings
from lib.config import Quirk, Section
from lib.errors import ConfigError
from lib.training_plan import Count, Positive, Rate, Recipe

Share = Annotated[float, Field(ge=0, le=1)]


class Toy(Section):
    """Scenarios per split and data set of the toy data; the fields are those of `toy.ToySizes`."""

    train_wts: Positive
    train_bdd: Positive
    val_wts: Positive
    val_bdd: Positive
    test_wts: Positive
    test_bdd: Positive


class Data(Section):
    """Which data: the published ones under data/cityllava, or toy data made on the spot."""

    source: Literal["published", "toy"]
    toy: Toy | None


class Base(llava_settings.Base):
    """How the tiny base weights are trained."""

    lessons: Literal["marked"]


class Model(llava_settings.Model):
    """The LLaVA model and the weights that the run starts from."""

    base: Base | None


class Pictures(Section):
    """What the model sees of a phase: the crop around both boxes (local), the whole frame (global), and how they are resized."""

    views: Annotated[list[Literal["local", "global"]], Field(min_length=1, max_length=2)]
    resize: Literal["squash", "pad", "anyres"]  # to a square, ignoring the aspect or padded; or the whole and its tiles


class DataPrepQuirks(Section):
    """Defects of the published view selection: the vehicle view's box area credited to an overhead camera without boxes, and the
    perspective that a scenario's vehicle camera is said to have."""

    borrowed_area: Quirk
    perspective: Quirk


class DataPrep(Section):
    """Boxes, rendered pictures, records, and the view that stands for a scenario in val and test."""

    box_scale: Rate
    crop_scale: Rate
    best_view: bool  # off: the first overhead camera
    quirks: DataPrepQuirks


class AugmentationQuirks(Section):
    """Defects of the published short-QA scripts: letters found anywhere in an answer, a question with another glued to it,
    ego views that are trained with the words of the box."""

    letters: Quirk
    glued_question: Quirk
    ego_wording: Quirk


class Augmentation(Section):
    """Short questions and answers from the captions, and which samples are trained on."""

    short_qa: bool
    service: Literal["offline", "endpoint"]  # who classifies sentences
    language_model: str
    area_threshold: Count  # square pixels a box has to exceed
    reference_views: bool  # only cameras of the reference list
    quirks: AugmentationQuirks


class BlockExpansionQuirks(Section):
    """Defect of the published script: the vision tower's layers are renumbered and copied like the language model's."""

    vision_tower: Quirk


class BlockExpansion(Section):
    """How many blocks are inserted into the language model."""

    new_blocks: Count
    quirks: BlockExpansionQuirks


class InferQuirks(Section):
    """Defects of the published inference: the raw answer, markers and all, in the history; a line end after the sentence on the
    stage, which training does not have."""

    history: Quirk
    stage_line: Quirk


class Infer(Section):
    """Asking for both captions of every phase."""

    checkpoint: Path | None  # released weights, a folder, in place of 04's result
    order: Literal["vehicle_first", "pedestrian_first", "independent"]
    precision: Literal["nf4", "bf16", "fp32"]
    sample: bool
    temperature: Rate
    sampling_seed: Count
    max_new_tokens: Positive
    tries: Positive
    quirks: InferQuirks


class Evaluate(Section):
    """The official score of each caption, and whose synonyms METEOR knows."""

    synonyms: Literal["wordnet", "none"]


class Machine(Section):
    """What changes the speed and not the result."""

    workers: Count
    batch: Positive  # clips per step of inference
    shards: Positive  # processes that share the clips
    requests: Positive  # to the outside language model at once
    timeout: Rate  # seconds until a request counts as lost


class Settings(config.Settings):
    """All sections of cityllava."""

    data: Data
    model: Model
    pictures: Pictures
    data_prep: DataPrep
    augmentation: Augmentation
    block_expansion: BlockExpansion
    finetune: Recipe
    infer: Infer
    evaluate: Evaluate
    machine: Machine

    @model_validator(mode="after")
    def _train_something(self) -> Self:
        """Refuse to train inserted blocks where none is inserted."""
        needs_blocks = self.finetune.method == "blocks" and self.finetune.trained != "head"
        if needs_blocks and self.block_expansion.new_blocks == 0:
            raise ConfigError(
                "finetune.method is 'blocks', block_expansion.new_blocks 0; insert blocks, or train with finetune.method=lora or full"
            )
        return self

    def replaced(self) -> dict[str, Path]:
        """Released weights stand for the result of 04."""
        return {} if self.infer.checkpoint is None else {"finetune": self.infer.checkpoint}
