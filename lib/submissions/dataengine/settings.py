"""The settings of dataengine: what each means, its unit and what it may be. Values and their sources stand in config.yaml."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lib import config, llava_settings, paths
from lib.config import Quirk, Section
from lib.errors import ConfigError
from lib.submissions.dataengine import minigpt4
from lib.training_plan import Count, Positive, Rate, Recipe

Weight = Annotated[float, Field(ge=0)]
Benchmark = Literal[
    "seed", "mme", "gqa", "vqav2", "vqav2_val", "pope", "textvqa", "vizwiz", "mm-vet", "llava-bench", "mmbench", "scienceqa", "aokvqa",
    "okvqa", "vizwiz_val", "vsr",
]  # fmt: skip


class Toy(Section):
    """Sizes of the toy data; the fields are those of `toy.ToySizes`."""

    mix: Positive
    texts: Count
    captions: Positive
    pool: Positive
    val: Positive
    test: Positive
    bench: Positive


class Data(Section):
    """Which data: the published ones under data/dataengine, laid out as playground/data, or toy data made on the spot."""

    source: Literal["published", "toy"]
    toy: Toy | None


class Base(llava_settings.Base):
    """How the tiny base weights are trained."""

    lessons: Literal["snapshots"]


class Model(llava_settings.Model):
    """The LLaVA model and the weights that the run starts from."""

    base: Base | None


class Rounds(Section):
    """Where in the loop a run stands: its number from 0, the last number, and the run of the round before."""

    number: Count
    last: Count
    parent: Path | None


class DataPrep(Section):
    """What is trained on beside generated records, and who sorts the validation questions into which types."""

    mix: Literal["instructions", "captions"]  # LLaVA-1.5's mix, or the captions that a projector is trained on before
    types: Literal["seed", "aokvqa"]  # the nine of SEED-Bench, or the eighteen of the engine's first version
    service: Literal["offline", "endpoint"]
    language_model: str


class AugmentationQuirks(Section):
    """Defects of the published reading of replies, listed in `replies`."""

    replies: Quirk


class Augmentation(Section):
    """Which records join the base mix: none, the published ones, or those that the engine generates after the round before."""

    source: Literal["none", "published", "engine"]
    view: Literal["mc", "mcp", "da", "short", "mixed"]
    wording: Literal["llava", "minigpt4"]  # whose words the records are trained in, and whose records are the published ones
    queries: Positive  # accepted ones per round
    top_k: Positive  # neighbours to choose from
    embedding: Literal["ViT-B-32", "tower"]  # whose picture features tell neighbours: OpenAI's CLIP, or the model's own picture tower
    weights: Literal["errors", "equal"]
    smoothing: Weight
    minimum: Count
    service: Literal["offline", "endpoint"]  # who writes
    language_model: str
    prompt: Path | None  # the writer's instructions, a text file; None: the published rules
    quirks: AugmentationQuirks


class Infer(Section):
    """Answering the benchmarks."""

    checkpoint: Path | None  # released weights, a folder, in place of 04's result
    benchmarks: Annotated[list[Benchmark], Field(min_length=1)]
    wording: Literal["llava", "minigpt4"]  # whose words are asked in, and whose way answers are read
    answers: Literal["generated", "chosen"]  # of multiple choice: free text, or the likeliest option
    precision: Literal["nf4", "bf16", "fp32"]
    max_new_tokens: Positive | None  # None: that of each benchmark's published driver
    tries: Positive


class EvaluateQuirks(Section):
    """Defects of the published scorers: choices that are never lower-cased, unreadable reviews that count as -1."""

    aokvqa: Quirk
    reviews: Quirk


class Evaluate(Section):
    """The scores of each benchmark, who judges LLaVA-Bench's answers, and what a person judged of the writer's replies."""

    service: Literal["offline", "endpoint"]
    language_model: str
    prompt_reviews: Path | None  # a sheet of 02 with verdicts, or a folder of such sheets; for the last round
    quirks: EvaluateQuirks


class Machine(Section):
    """What changes the speed and not the result."""

    workers: Count
    batch: Positive  # questions per step of inference
    shards: Positive  # processes that share the questions
    requests: Positive  # to the outside language model at once
    timeout: Rate  # seconds until a request counts as lost


class Settings(config.Settings):
    """All sections of dataengine."""

    data: Data
    model: Model
    rounds: Rounds
    data_prep: DataPrep
    augmentation: Augmentation
    finetune: Recipe
    infer: Infer
    evaluate: Evaluate
    machine: Machine

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        """Refuse to generate after no round, to ask a benchmark twice or without words, to go on without bad cases, and to train blocks: there are none."""
        if self.augmentation.source == "engine" and self.rounds.parent is None:
            raise ConfigError(
                "augmentation.source is engine, which reads the bad cases of an earlier round, and rounds.parent names none; "
                "give its run folder, or run the rounds from the first with rounds.last=1"
            )
        twice = [name for name in self.infer.benchmarks if self.infer.benchmarks.count(name) > 1]
        if twice:
            raise ConfigError(f"infer.benchmarks names {twice[0]} more than once; name each benchmark once")
        if self.infer.wording == "minigpt4":
            minigpt4.check_asked(self.infer.benchmarks)
        if self._is_followed() and "aokvqa" not in self.infer.benchmarks:
            raise ConfigError(
                f"rounds.last is {self.rounds.last}, and every round but the last has to answer aokvqa, whose bad cases the next one "
                "reads; add it to infer.benchmarks, or set rounds.last=0"
            )
        if self.data_prep.mix == "captions" and (self.finetune.method != "projector" or self.augmentation.source != "none"):
            raise ConfigError(
                "data_prep.mix is captions, on which the projector alone is trained; set finetune.method=projector and "
                "augmentation.source=none, or take instructions"
            )
        if self.finetune.method == "blocks":
            raise ConfigError("finetune.method is blocks, and dataengine inserts none; it is lora, full or projector")
        return self

    def replaced(self) -> dict[str, Path]:
        """Released weights stand for the result of 04."""
        return {} if self.infer.checkpoint is None else {"finetune": self.infer.checkpoint}

    def given(self, stage: str) -> dict[str, Path]:
        """The writer's instructions, and the sheets on which a person judged replies: neither is read where it changes nothing."""
        read = {
            "augmentation": {"augmentation.prompt": self.augmentation.prompt if self.augmentation.source == "engine" else None},
            "evaluate": {"evaluate.prompt_reviews": None if self._is_followed() else self.evaluate.prompt_reviews},
        }
        return {setting: path for setting, path in read.get(stage, {}).items() if path is not None}

    def parent(self) -> Path | None:
        """The run folder of the round before."""
        return self.rounds.parent

    def uses(self) -> frozenset[str]:
        """Mix, benchmarks, published records, and what the engine writes about; a run that others follow needs that as well."""
        found = {self.data_prep.mix, *self.infer.benchmarks}
        if self.augmentation.source == "published":
            found.add("records of minigpt4" if self.augmentation.wording == "minigpt4" else "records")
        if self.augmentation.source == "engine" or self._is_followed():
            found |= {"engine", f"engine by {self.augmentation.embedding}"}
        return frozenset(found)

    def following(self, folder: Path) -> tuple[str, ...]:
        """The overrides of the round that follows the finished run in `folder`; none after the last."""
        if not self._is_followed():
            return ()
        return (f"rounds.number={self.rounds.number + 1}", f"rounds.parent={paths.relative(folder)}", "augmentation.source=engine")

    def _is_followed(self) -> bool:
        """Whether a round comes after this one; captions are trained on once, before all rounds."""
        return self.rounds.number < self.rounds.last and self.data_prep.mix == "instructions"
