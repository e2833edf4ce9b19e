"""05 of a3r: encode the queries and the gallery, rank, and write the first ten names per query (specs/a3r.md sections 5 and 6).

Two benchmarks: `test`, the challenge's queries against all its pictures, and `val`, where captions of the validation split are the
queries and the answers are known. Each is ranked by the fine-tuned (or released) weights and by the base they started from.
"""

import io
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import files, paths, records
from lib.config import StageSettings
from lib.runs import Run
from lib.submissions.a3r import queries, tables
from lib.submissions.a3r.augmentation import base_model, base_weights
from lib.submissions.a3r.data_prep import picture_folder
from lib.submissions.a3r.labels import Kind, Label
from lib.submissions.a3r.queries import Result

if TYPE_CHECKING:
    from torch import Tensor

    from lib.submissions.a3r.features import Encoder

READS = ("data", "base", "data_prep", "augmentation", "finetune")
SETTINGS = ("model", "finetune")

BENCHMARKS = ("val", "test")
RANKS = "val-ranks.json"
SAMPLES = "samples"
SAMPLE_QUERIES, SAMPLE_PICTURES, SAMPLE_SIDE = 3, 6, 112

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """One query: its line as published, its class, and the text that goes into the text tower."""

    benchmark: str
    index: int
    kind: Kind
    text: str
    encoded: str


@dataclass(frozen=True)
class Prediction:
    """The ranked picture names of one query, best first, with their scores; `before` holds the names before re-ranking, if any."""

    benchmark: str
    index: int
    kind: Kind
    text: str
    encoded: str
    image_names: tuple[str, ...]
    scores: tuple[float, ...]
    before: tuple[str, ...] = ()


def load_model(cfg: StageSettings, run: Run) -> "Encoder":
    """The weights under test: those that 04 made, or the released checkpoint named by `infer.checkpoint`."""
    from lib.submissions.a3r import features

    if cfg.infer.checkpoint is not None:
        return features.load_encoder("finetuned", paths.ROOT / cfg.infer.checkpoint, model=released_model(cfg), padding=cfg.infer.padding)
    return features.load_encoder("finetuned", run.of("finetune") / "model", model=None, padding=cfg.infer.padding)


def released_model(cfg: StageSettings) -> str | dict:
    """The model a checkpoint without a config of its own is of: a name that open_clip knows, or the architecture of the settings."""
    return cfg.model.architecture or cfg.model.name


def load_baseline(cfg: StageSettings, run: Run) -> "Encoder":
    """The base weights that fine-tuning started from."""
    from lib.submissions.a3r import features

    return features.load_encoder("base", base_weights(cfg, run.base), model=base_model(cfg), padding=cfg.infer.padding)


def build_prompts(cfg: StageSettings, run: Run) -> list[Prompt]:
    """All queries of both benchmarks: val captions (each distinct one once) and the routed test queries, in their order."""
    vehicles, pedestrians = read_validation(run)
    distinct = {label.caption: label.kind for label in [*vehicles, *pedestrians]}
    lines = [("val", index, kind, text) for index, (text, kind) in enumerate(distinct.items())]
    for row in files.read_jsonl(run.of("data_prep") / "queries.jsonl"):
        lines.append(("test", row["index"], row["kind"], row["text"]))
    return [Prompt(benchmark, index, kind, text, query_text(text, kind, cfg)) for benchmark, index, kind, text in lines]


def show_prompts(prompts: list[Prompt]) -> list[dict]:
    """Per benchmark and class: how many, and the first and the longest prompt with the text that is encoded."""
    rows = []
    for benchmark, kind in sorted({(prompt.benchmark, prompt.kind) for prompt in prompts}):
        own = [prompt for prompt in prompts if (prompt.benchmark, prompt.kind) == (benchmark, kind)]
        for prompt in dict.fromkeys((own[0], max(own, key=lambda one: len(one.text)))):
            rows.append({"benchmark": benchmark, "class": kind, "prompts": len(own), "line": prompt.text, "encoded": prompt.encoded})
    return rows


def show_predictions(predictions: list[Prediction]) -> list[dict]:
    """The first test query of each class with its first five names and their similarities."""
    test = [one for one in predictions if one.benchmark == "test"]
    chosen = [next((one for one in test if one.kind == kind), None) for kind in ("vehicle", "pedestrian")]
    return [
        {"query": one.text, "first five": list(one.image_names[:5]), "similarity": [round(score, 4) for score in one.scores[:5]]}
        for one in chosen
        if one is not None
    ]


def measure_rows(measures: dict[str, dict[str, float]]) -> list[dict]:
    """Ranks as a table: one row per measure, one column per model."""
    return [{"measure": name, **{model: values[name] for model, values in measures.items()}} for name in next(iter(measures.values()))]


def predict(model: "Encoder", prompts: list[Prompt], cfg: StageSettings, run: Run) -> list[Prediction]:
    """Rank each benchmark's gallery for its queries, by cosine similarity and, where asked for, re-ranking."""
    from lib.submissions.a3r import features
    from lib.submissions.a3r.search import Gallery, search

    predictions = []
    for benchmark in BENCHMARKS:
        asked = [prompt for prompt in prompts if prompt.benchmark == benchmark]
        names = gallery(benchmark, run)
        folder, out = picture_folder(run.data, benchmark), run.out / "features" / f"{model.name}-{benchmark}"
        images = features.encode_gallery(model, folder, names, out, cfg.machine)
        mirrored = features.encode_gallery(model, folder, names, out, cfg.machine, flip=True) if cfg.infer.rerank != "none" else None
        texts = features.encode_texts(model.bundle, [prompt.encoded for prompt in asked], batch=cfg.machine.text_batch)
        logger.info("%s: ranking %d pictures for each of %d queries of %s", model.name, len(names), len(asked), benchmark)
        ranked = search(texts, [prompt.kind for prompt in asked], Gallery(names, images, mirrored), cfg)
        predictions += [Prediction(**asdict(prompt), **asdict(found)) for prompt, found in zip(asked, ranked, strict=True)]
    return predictions


def measure(model: "Encoder", cfg: StageSettings, run: Run) -> dict[str, float]:
    """Ranks and loss of the validation pairs, as open_clip's trainer measures them, with caption-level recall and the ceilings.

    Pairs are the rows of the merged validation table: every picture with its training caption. The loss depends on the batch size and
    the order of the rows (spec 4.4), so both are those of training.
    """
    from lib.metrics import retrieval
    from lib.submissions.a3r import features

    rows = tables.read_table(run.of("augmentation") / "val_data.csv").rows
    names, captions = [Path(row.filepath).name for row in rows], [row.title for row in rows]
    images = features.encode_pictures(
        model, picture_folder(run.data, "val"), names, batch=cfg.machine.image_batch, workers=cfg.machine.workers
    )
    texts = features.encode_texts(model.bundle, captions, batch=cfg.machine.text_batch)
    pair = [_unit(part).numpy() for part in (images, texts)]
    scale = float(model.bundle.model.logit_scale.detach().exp())
    loss = retrieval.validation_loss(*pair, scale, batch_size=cfg.finetune.batch_size)
    ceilings = {f"ceiling_{name}": value for name, value in retrieval.recall_ceilings(captions).items()}
    ranks = {**retrieval.retrieval_scores(*pair), **retrieval.group_recall(*pair, captions)}
    return {"pairs": len(rows), "clip_val_loss": loss, **ranks, **ceilings}


def write_predictions(predictions: list[Prediction], model: "Encoder", cfg: StageSettings, run: Run) -> list[str]:
    """Write `<benchmark>-<model>.jsonl` and, for the weights under test, the two result files in the published format."""
    written = []
    for benchmark in BENCHMARKS:
        own = [prediction for prediction in predictions if prediction.benchmark == benchmark]
        path = run.out / f"{benchmark}-{model.name}.jsonl"
        files.write_jsonl(path, (asdict(prediction) for prediction in own))
        written.append(path.name)
    if model.name == "finetuned":
        for kind, name in (("vehicle", "open_clip_car_infer.json"), ("pedestrian", "open_clip_person_infer.json")):
            own = [one for one in predictions if one.benchmark == "test" and one.kind == kind]
            queries.write_results(run.out / name, [Result(one.text, one.image_names[: cfg.infer.top_k]) for one in own])
            written.append(name)
    return written


def write_samples(predictions: list[Prediction], run: Run) -> list[str]:
    """Keep small copies of the first pictures of some test queries, so that a review can show them without the data set."""
    from lib.submissions.a3r import pictures

    test = [one for one in predictions if one.benchmark == "test"]
    chosen = [one for kind in ("vehicle", "pedestrian") for one in [two for two in test if two.kind == kind][:SAMPLE_QUERIES]]
    rows = []
    for prediction in chosen:
        names = prediction.image_names[:SAMPLE_PICTURES]
        for name in names:
            picture = pictures.read_picture(picture_folder(run.data, "test") / name).convert("RGB")
            picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=80)
            files.write_bytes(run.out / SAMPLES / f"{Path(name).stem}.jpg", content.getvalue())
        rows.append({"index": prediction.index, "text": prediction.text, "pictures": [f"{Path(name).stem}.jpg" for name in names]})
    files.write_json(run.out / SAMPLES / "samples.json", rows)
    return [row["text"] for row in rows]


def write_measures(measures: dict[str, dict[str, float]], run: Run) -> str:
    """Write the validation ranks of each model; returns the file's name."""
    files.write_json(run.out / RANKS, measures)
    return RANKS


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """What each query convention makes of a line, and the first pictures of some queries."""
    from lib import plots, show
    from lib.submissions.a3r import pictures

    rows = read_predictions(run.out / "test-finetuned.jsonl")
    chosen = [rows[0], next((row for row in rows if row.kind == "pedestrian"), rows[-1])]
    conventions = [
        {"convention": convention, "text": queries.encoded_text(rows[0].text, convention=convention, final_dot="corrected")}
        for convention in queries.TEXT_CONVENTIONS
    ]
    shown = [("What the text tower reads under each convention, for the first query:", show.table(conventions))]
    folder = picture_folder(run.data, "test")
    for row in chosen:
        found = [pictures.read_picture(folder / name) for name in row.image_names[:8]]
        captions = [f"{score:.3f}" for score in row.scores[:8]]
        shown.append((f"The first pictures for “{row.text}”, with their similarity:", plots.picture_grid(found, captions)))
    return shown


def read_validation(run: Run) -> tuple[list[Label], list[Label]]:
    """(vehicles, pedestrians) of the validation split as 01 wrote them."""
    folder = run.of("data_prep")
    return tables.read_split(folder / "val_car_label.txt"), tables.read_split(folder / "val_person_label.txt")


def gallery(benchmark: str, run: Run) -> list[str]:
    """The names that a benchmark's queries are ranked against."""
    if benchmark == "test":
        return json.loads(files.read_text(run.of("data_prep") / "gallery.json"))
    vehicles, pedestrians = read_validation(run)
    return [label.name for label in [*vehicles, *pedestrians]]


def query_text(text: str, kind: Kind, cfg: StageSettings) -> str:
    """What the text tower reads: the convention of the settings for vehicles, the plain sentence for pedestrians."""
    convention = cfg.infer.query if kind == "vehicle" else "plain"
    return queries.encoded_text(text, convention=convention, final_dot=cfg.infer.quirks.final_dot)


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file as written by `write_predictions`. Raises DataError naming file, row and field."""
    return records.read_rows(path, Prediction)


def _unit(features: "Tensor") -> "Tensor":
    return features / features.norm(dim=-1, keepdim=True)
