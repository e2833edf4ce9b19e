"""05 of cityllava: two questions about every phase of every scenario, answered by the trained model and by the one it started from.

Benchmarks: `val`, whose captions are known, and `test`, the challenge's (specs/cityllava.md section 9). What could not be answered
stays empty, is counted, and is never filled with another phase's captions.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import files, paths, records, store
from lib.answering import Answerer
from lib.config import StageSettings
from lib.runs import Run
from lib.submissions.cityllava import block_expansion, data_prep, finetune, official
from lib.submissions.cityllava.annotations import PHASES, View
from lib.submissions.cityllava.official import PhaseCaptions
from lib.submissions.cityllava.prompts import ORDERS, clean, question

if TYPE_CHECKING:
    from lib.generation import Plan

READS = ("base", "data_prep", "block_expansion", "finetune")
SETTINGS = ("model", "pictures", "block_expansion", "finetune")

BENCHMARKS = ("val", "test")
MEASURES, SUBMISSION = "val-measures.json", "inference_result.json"
RELEASED = f"{store.MEDIA}/released"
SAMPLES, SHOWN, SAMPLE_SIDE = "samples", 6, 220

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """What is asked about one phase: its pictures (below the media root), and the questions of each conversation, in their order."""

    benchmark: str
    scenario: str
    label: str
    view: View
    pictures: tuple[str, ...]
    questions: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> str:
        """Such as "val 20230707_8_SN46_T1 4"."""
        return f"{self.benchmark} {self.scenario} {self.label}"


@dataclass(frozen=True)
class Prediction:
    """The two captions of one phase, without markers; both empty, with the reason, where asking failed."""

    benchmark: str
    scenario: str
    label: str
    view: View
    pedestrian: str
    vehicle: str
    failure: str = ""


def load_model(cfg: StageSettings, run: Run) -> Answerer:
    """The weights under test: those that 04 made, or the released ones named by `infer.checkpoint`."""
    if cfg.infer.checkpoint is None:
        return Answerer("finetuned", run.of("finetune") / "model", cfg.infer.precision)
    from lib import checkpoints

    folder = released = paths.ROOT / cfg.infer.checkpoint
    if checkpoints.is_original_layout(released):
        folder = run.out / RELEASED
        checkpoints.adopt(released, folder, clip=block_expansion.clip_folder(released))
    return Answerer("finetuned", folder, cfg.infer.precision)


def load_baseline(cfg: StageSettings, run: Run) -> Answerer:
    """The weights that fine-tuning started from: expanded, and exactly as good as the base."""
    return Answerer("base", block_expansion.start_weights(run), cfg.infer.precision)


def build_prompts(cfg: StageSettings, run: Run) -> list[Prompt]:
    """Every phase of every scenario of both benchmarks, with the frames that 01 chose."""
    found = []
    for benchmark in BENCHMARKS:
        for frame in data_prep.read_frames(run.of("data_prep"), benchmark):
            questions = tuple(
                tuple(question(kind, int(frame.label), frame.view, stage_line=cfg.infer.quirks.stage_line) for kind in kinds)
                for kinds in ORDERS[cfg.infer.order]
            )
            pictures = tuple(finetune.view_paths(frame.image, cfg.pictures.views))
            found.append(Prompt(benchmark, frame.scenario, frame.label, frame.view, pictures, questions))
    return found


def show_prompts(prompts: list[Prompt]) -> list[dict]:
    """Per benchmark and view: how many, and the questions of the first."""
    rows = []
    for benchmark, view in sorted({(one.benchmark, one.view) for one in prompts}):
        own = [one for one in prompts if (one.benchmark, one.view) == (benchmark, view)]
        asked = [text for conversation in own[0].questions for text in conversation]
        rows.append({"benchmark": benchmark, "view": view, "phases": len(own), "asked first": asked[0], "asked second": asked[1]})
    return rows


def predict(model: Answerer, prompts: list[Prompt], cfg: StageSettings, run: Run) -> list[Prediction]:
    """Both captions of every phase: in batches, over as many processes as `machine.shards`, continuing what was interrupted."""
    from lib import generation

    conversations = [
        generation.Conversation(f"{one.id} {number}", one.pictures, questions)
        for one in prompts
        for number, questions in enumerate(one.questions)
    ]
    answered = generation.answer_all(lambda: model.bundle, conversations, generation_plan(model, cfg, run), label=f"asking {model.name}")
    found = {row.id: row for row in answered}
    predictions = []
    for one in prompts:
        rows = [found[f"{one.id} {number}"] for number in range(len(one.questions))]
        kinds = [kind for conversation in ORDERS[cfg.infer.order] for kind in conversation]
        failure = next((row.failure for row in rows if row.failure), "")
        texts = [clean(text) for row in rows for text in row.answers] if not failure else ["", ""]
        predictions.append(
            Prediction(one.benchmark, one.scenario, one.label, one.view, **dict(zip(kinds, texts, strict=True)), failure=failure)
        )
    run.drop(f"{model.name}: phase not answered", sum(bool(one.failure) for one in predictions))
    return predictions


def show_predictions(predictions: list[Prediction]) -> list[dict]:
    """The first phase of each benchmark with its two captions."""
    first = {one.benchmark: one for one in reversed(predictions)}
    names = ("benchmark", "scenario", "label", "view", "vehicle", "pedestrian", "failure")
    return [{name: getattr(first[benchmark], name) for name in names} for benchmark in BENCHMARKS if benchmark in first]


def measure(model: Answerer, cfg: StageSettings, run: Run) -> dict[str, float]:
    """Loss (nats) and accuracy per token of the known val captions, each token predicted from the true ones before it."""
    from lib import conversation, datasets, generation

    samples = [finetune.to_sample(record, cfg) for record in finetune.validation_records(cfg, run)]
    known = datasets.InstructionDataset(
        samples,
        bundle=model.bundle,
        template=conversation.TEMPLATES[finetune.TEMPLATE],
        media_root=data_prep.media_root(run.of("data_prep")),
        resize=cfg.pictures.resize,
        max_length=cfg.finetune.max_length,
    )
    return generation.measure_loss(model.bundle, known, batch=cfg.machine.batch, label=f"measuring {model.name}")


def measure_rows(measures: dict[str, dict[str, float]]) -> list[dict]:
    """Measures as a table: one row per measure, one column per model."""
    return [{"measure": name, **{model: values[name] for model, values in measures.items()}} for name in next(iter(measures.values()))]


def write_measures(measures: dict[str, dict[str, float]], run: Run) -> str:
    """Write the measures of each model; returns the file's name."""
    files.write_json(run.out / MEASURES, measures)
    return MEASURES


def write_predictions(predictions: list[Prediction], model: Answerer, cfg: StageSettings, run: Run) -> list[str]:
    """Write `<benchmark>-<model>.jsonl` and, for the weights under test, the published result file of the test part."""
    written = []
    for benchmark in BENCHMARKS:
        own = [one for one in predictions if one.benchmark == benchmark]
        files.write_jsonl(run.out / f"{benchmark}-{model.name}.jsonl", (asdict(one) for one in own))
        written.append(f"{benchmark}-{model.name}.jsonl")
    if model.name == "finetuned":
        official.write_submission(run.out / SUBMISSION, as_captions(one for one in predictions if one.benchmark == "test"))
        written.append(SUBMISSION)
    return written


def write_samples(predictions: list[Prediction], run: Run) -> list[str]:
    """Keep small copies of some val pictures with their captions, so that a review can show them without the data set."""
    from PIL import Image

    media = data_prep.media_root(run.of("data_prep"))
    val = [one for one in predictions if one.benchmark == "val"]
    chosen = val[:: max(1, len(val) // SHOWN)][:SHOWN]
    frames = {(one.scenario, one.label): one for one in data_prep.read_frames(run.of("data_prep"), "val")}
    rows = []
    for one in chosen:
        names = []
        for extent, path in zip(
            ("local", "global"), finetune.view_paths(frames[one.scenario, one.label].image, ("local", "global")), strict=True
        ):
            picture = Image.open(media / path).convert("RGB")
            picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=85)
            names.append(f"{one.scenario}-{one.label}-{extent}.jpg")
            files.write_bytes(run.out / SAMPLES / names[-1], content.getvalue())
        text = f"{one.scenario}, {PHASES[int(one.label)]}. Vehicle: {one.vehicle} Pedestrian: {one.pedestrian}"
        rows.append({"text": text, "pictures": names, "captions": ["crop", "whole frame"]})
    files.write_json(run.out / SAMPLES / "samples.json", rows)
    return [row["text"] for row in rows]


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file as written by `write_predictions`. Raises DataError naming file, row and field."""
    return records.read_rows(path, Prediction)


def as_captions(predictions: Sequence[Prediction]) -> official.Captions:
    """The predictions by scenario and label, as the official evaluator takes them; what failed is left out and counts as zero."""
    found: official.Captions = {}
    for one in predictions:
        if not one.failure:
            found.setdefault(one.scenario, {})[one.label] = PhaseCaptions(one.pedestrian, one.vehicle)
    return found


def generation_plan(model: Answerer, cfg: StageSettings, run: Run) -> "Plan":
    """The plan of `lib.generation` for these weights; its files lie among the stage's traces until all is answered."""
    from lib import generation

    recipe = cfg.infer
    how = generation.How(
        template=finetune.TEMPLATE,
        resize=cfg.pictures.resize,
        history=recipe.quirks.history,
        max_new_tokens=recipe.max_new_tokens,
        sample=recipe.sample,
        temperature=recipe.temperature,
        sampling_seed=recipe.sampling_seed,
        tries=recipe.tries,
    )
    out = run.out / "features" / model.name
    return generation.Plan(
        model=model.folder,
        precision=recipe.precision,
        conversations=out / "conversations.jsonl",
        media_root=data_prep.media_root(run.of("data_prep")),
        out=out,
        parts=cfg.machine.shards,
        batch=cfg.machine.batch,
        how=how,
    )


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Both pictures of a phase with the conversation about it, and how long the captions are."""
    from lib import plots, show

    asked = {(one.scenario, one.label): one for one in build_prompts(cfg, run) if one.benchmark == "val"}
    found = read_predictions(run.out / "val-finetuned.jsonl")
    first = asked[found[0].scenario, found[0].label]
    media = data_prep.media_root(run.of("data_prep"))
    pictures = [data_prep.open_picture(media / path) for path in first.pictures]
    said = {"asked": [text for conversation in first.questions for text in conversation], "vehicle": found[0].vehicle}
    lengths = [len(text.split()) for one in found for text in (one.vehicle, one.pedestrian)]
    return [
        ("What the model sees of one phase:", plots.picture_grid(pictures, list(cfg.pictures.views), columns=2)),
        ("And what is asked and answered:", show.record({**said, "pedestrian": found[0].pedestrian})),
        (
            "Words per caption of val (fewest, mean, most):",
            show.record({"fewest": min(lengths), "mean": sum(lengths) / len(lengths), "most": max(lengths)}),
        ),
    ]
