"""06 of a3r: mAP@10 on both benchmarks, validation ranks, controls, and the challenge server's file (specs/a3r.md section 7).

The published entry has no evaluation. Relevance follows the task page: a picture answers a query if it has the query's attributes.
On val the labels tell; the test answers are known only for toy data, the server never published them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lib import files, records
from lib.config import StageSettings
from lib.errors import DataError
from lib.metrics import retrieval
from lib.runs import Run
from lib.submissions.a3r import infer, queries, vocabulary
from lib.submissions.a3r.infer import BENCHMARKS, Prediction
from lib.submissions.a3r.queries import Problem, Result
from lib.submissions.a3r.vocabulary import Query

READS = ("data", "data_prep", "augmentation", "infer")
SETTINGS = ("infer",)

MODELS = ("finetuned", "base")
METRICS, REFERENCES, SUBMISSION = "metrics.json", "references.jsonl", "submission.json"
ANSWERS = "toy_answers.json"
# A vehicle query without its article is a phrase of the vocabulary's words: what it names decides its kind of attribute.
PARTS = ("colors", "brands", "types")


@dataclass(frozen=True)
class Reference:
    """The pictures that answer one query; `part` says which attributes the query names (vehicles) or "sentence" (pedestrians)."""

    benchmark: str
    index: int
    kind: str
    part: str
    relevant: tuple[str, ...]


def read_references(cfg: StageSettings, run: Run) -> list[Reference]:
    """The answers of val from its labels and, for toy data, those of test."""
    known = vocabulary.read_vocabulary(run.of("data_prep") / "car_attribute.json")
    vehicles, pedestrians = infer.read_validation(run)
    labels = [*vehicles, *pedestrians]
    named: dict[str, list[str]] = {}
    attributes: dict[str, list[str]] = {}
    for label in labels:
        named.setdefault(label.attribute, []).append(label.name)
        attributes.setdefault(label.caption, []).append(label.attribute)
    kinds = {label.caption: label.kind for label in labels}
    found = []
    for index, (caption, own) in enumerate(attributes.items()):
        # A sentence may stand beside several attribute fields, because it does not name all there is: each of them answers it.
        relevant = tuple(name for attribute in dict.fromkeys(own) for name in named[attribute])
        found.append(Reference("val", index, kinds[caption], query_part(caption, kinds[caption], known), relevant))
    answers = run.data / ANSWERS
    if not answers.is_file():
        return found
    relevant = files.read_json(answers)
    for row in files.read_jsonl(run.of("data_prep") / "queries.jsonl"):
        part = query_part(row["text"], row["kind"], known)
        found.append(Reference("test", row["index"], row["kind"], part, tuple(relevant[str(row["index"])])))
    return found


def count_references(references: Sequence[Reference]) -> list[dict]:
    """Per benchmark and class: queries with answers, and how many relevant pictures they have."""
    rows = []
    for benchmark, kind in sorted({(one.benchmark, one.kind) for one in references}):
        sizes = [len(one.relevant) for one in references if (one.benchmark, one.kind) == (benchmark, kind)]
        rows.append(
            {
                "benchmark": benchmark,
                "class": kind,
                "queries": len(sizes),
                "relevant (mean)": sum(sizes) / len(sizes),
                "relevant (most)": max(sizes),
            }
        )
    return rows


def show_reference(references: Sequence[Reference]) -> dict:
    """The reference with the most relevant pictures."""
    return asdict(max(references, key=lambda one: len(one.relevant)))


def main_scores(scores: Sequence[dict]) -> list[dict]:
    """The rows over all queries, mAP first; ranks and counts have no control and are left to the claims."""
    return [row for row in scores if row["group"] == "all" and row["metric"].startswith("mAP")]


def group_scores(scores: Sequence[dict]) -> list[dict]:
    """The official mAP of the fine-tuned model by class and by kind of attribute."""
    return [row for row in scores if row["group"] != "all" and row["model"] == "finetuned" and "min" not in row["metric"]]


def read_predictions(run: Run) -> dict[str, list[Prediction]]:
    """Model -> its predictions on both benchmarks, as 05 wrote them."""
    folder = run.of("infer")
    return {
        model: [one for benchmark in BENCHMARKS for one in infer.read_predictions(folder / f"{benchmark}-{model}.jsonl")]
        for model in MODELS
    }


def score(predictions: dict[str, list[Prediction]], references: Sequence[Reference], cfg: StageSettings) -> list[dict]:
    """mAP@k per benchmark, group of queries and model, with both denominators and the control of shuffled answers.

    Rows are {"benchmark", "metric", "group", "model", "value", "n"}; a benchmark without answers has no rows. "shuffled" is the
    fine-tuned model against answers dealt out at random among the queries of the same benchmark: what chance would score.
    """
    rows = []
    for benchmark in BENCHMARKS:
        wanted = [one for one in references if one.benchmark == benchmark]
        if not wanted:
            continue
        for model, found in predictions.items():
            rows += _map_rows(benchmark, model, found, wanted, cfg)
        mixed = _shuffled(wanted, cfg.seed)
        rows += [row for row in _map_rows(benchmark, "shuffled", predictions["finetuned"], mixed, cfg) if row["group"] == "all"]
    return rows


def measure_scores(run: Run) -> list[dict]:
    """The validation ranks that 05 measured, as rows like those of `score`."""
    return rank_rows(files.read_json(run.of("infer") / infer.RANKS))


def rank_rows(ranks: dict[str, dict[str, float]]) -> list[dict]:
    """Rows of {model: {metric: value}}; `n` is the number of pairs."""
    return [
        {"benchmark": "val", "metric": metric, "group": "all", "model": model, "value": value, "n": int(values["pairs"])}
        for model, values in ranks.items()
        for metric, value in values.items()
        if metric != "pairs"
    ]


def data_scores(run: Run) -> list[dict]:
    """What claims about the data are answered by: the sizes of the vocabulary, and how many brands augmentation invented."""
    counts = files.read_json(run.of("data_prep") / "report.json")
    audit = files.read_json(run.of("augmentation") / "audit.json")["train"]
    words = sum(counts["vocabulary"].values())
    rows = [("vocabulary", kind, count, words) for kind, count in counts["vocabulary"].items()]
    rows.append(("augmentation", "filled_brands", sum(audit["filled"]["brands"].values()), audit["rows"]))
    return [
        {"benchmark": benchmark, "metric": metric, "group": "all", "model": "finetuned", "value": float(value), "n": n}
        for benchmark, metric, value, n in rows
    ]


def write_scores(scores: list[dict], references: Sequence[Reference], run: Run) -> list[str]:
    """Write metrics.json and the references, so that the scores can be computed again from what a run keeps."""
    files.write_json(run.out / METRICS, {"scores": scores})
    files.write_jsonl(run.out / REFERENCES, (asdict(reference) for reference in references))
    return [METRICS, REFERENCES]


def write_submission(predictions: dict[str, list[Prediction]], cfg: StageSettings, run: Run) -> list[Problem]:
    """Write submission.json in the order of test_text.txt and validate it; returns what the server would object to (nothing)."""
    test = [one for one in predictions["finetuned"] if one.benchmark == "test"]
    parts = {kind: [one for one in test if one.kind == kind] for kind in ("vehicle", "pedestrian")}
    results = {kind: [Result(one.text, one.image_names) for one in own] for kind, own in parts.items()}
    if cfg.evaluate.quirks.merge_order == "as_published":
        merged = queries.merge_published(results["vehicle"], results["pedestrian"])
    else:
        merged = queries.merge_ordered([([Query(one.index, one.text) for one in parts[kind]], results[kind]) for kind in parts])
    queries.write_results(run.out / SUBMISSION, merged)
    return validate_submission(run.out / SUBMISSION, run.of("data_prep"), cfg.infer.top_k)


def validate_submission(path: Path, data_prep: Path, top_k: int) -> list[Problem]:
    """Everything the server would object to in a submission file, given the queries and gallery that 01 wrote."""
    lines = [row["text"] for row in files.read_jsonl(data_prep / "queries.jsonl")]
    return queries.find_problems(files.read_json(path), lines, files.read_json(data_prep / "gallery.json"), top_k=top_k)


def rescore(folder: Path, cfg: StageSettings) -> list[dict]:
    """The scores computed again from the predictions and references in a run folder: what `verify` compares with metrics.json."""
    predictions = {
        model: [one for name in BENCHMARKS for one in infer.read_predictions(folder / f"05-infer/{name}-{model}.jsonl")] for model in MODELS
    }
    references = records.read_rows(folder / "06-evaluate" / REFERENCES, Reference)
    return score(predictions, references, cfg) + rank_rows(files.read_json(folder / "05-infer" / infer.RANKS))


def query_part(text: str, kind: str, known: vocabulary.Vocabulary) -> str:
    """Which attributes a vehicle query names, as "colour+brand+type" or a part of it; "sentence" for pedestrians."""
    from lib.submissions.a3r import candidates

    if kind == "pedestrian":
        return "sentence"
    found = candidates.known_attributes(text, known, convention="readme")
    names = dict(zip(PARTS, ("colour", "brand", "type"), strict=True))
    return "+".join(names[part] for part in PARTS if getattr(found, part)) or "none"


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """The queries with the lowest and the highest average precision, and the one that re-ranking changed most."""
    from lib import show

    found = {(one.benchmark, one.index): one for one in read_predictions(run)["finetuned"]}
    rows = []
    for reference in records.read_rows(run.out / REFERENCES, Reference):
        prediction = found[reference.benchmark, reference.index]
        hits = [place for place, name in enumerate(prediction.image_names, start=1) if name in set(reference.relevant)]
        value = retrieval.average_precision(
            prediction.image_names, reference.relevant, cfg.evaluate.k, denominator=cfg.evaluate.denominator
        )
        asked = {"benchmark": reference.benchmark, "query": prediction.text}
        rows.append({**asked, "AP": value, "relevant": len(reference.relevant), "found at": hits})
    rows = sorted((row for row in rows if row["AP"] is not None), key=lambda row: row["AP"])
    lowest = "The five queries with the lowest average precision, with the places of their relevant pictures among the first ten:"
    return [(lowest, show.table(rows[:5])), ("And the five with the highest:", show.table(rows[-5:])), *_reranked(found, run)]


def _reranked(found: Mapping[tuple[str, int], Prediction], run: Run) -> list[tuple[str, object]]:
    """The test query whose relevant pictures moved most under re-ranking, before and after; nothing where there was no re-ranking."""
    from lib import plots
    from lib.submissions.a3r import data_prep, pictures

    moved = []
    for reference in records.read_rows(run.out / REFERENCES, Reference):
        prediction, relevant = found[reference.benchmark, reference.index], set(reference.relevant)
        if reference.benchmark == "test" and prediction.before:
            gain = sum(name in relevant for name in prediction.image_names[:5]) - sum(name in relevant for name in prediction.before[:5])
            moved.append((abs(gain), -reference.index, prediction, relevant))
    if not moved:
        return []
    _, _, prediction, relevant = max(moved, key=lambda one: one[:2])
    folder = data_prep.picture_folder(run.data, "test")
    before, after = (
        ([pictures.read_picture(folder / name) for name in names], [name in relevant for name in names])
        for names in (prediction.before, prediction.image_names)
    )
    return [("The query whose first pictures re-ranking changed most:", plots.ranking_before_after(prediction.text, before, after))]


def _map_rows(benchmark: str, model: str, found: Iterable[Prediction], wanted: Sequence[Reference], cfg: StageSettings) -> list[dict]:
    """mAP@k rows of one benchmark and model: all queries, each class, each kind of attribute."""
    by_index = {one.index: one for one in found if one.benchmark == benchmark}
    absent = [one.index for one in wanted if one.index not in by_index]
    if absent:
        raise DataError(f"{benchmark} {model}: no prediction for query {absent[0]} ({len(absent)} in all); run 05-infer again")
    ranked = [by_index[one.index].image_names for one in wanted]
    relevant = [one.relevant for one in wanted]
    metric = f"mAP@{cfg.evaluate.k}"
    rows = []
    for denominator in ("relevant", "min(relevant, k)"):
        name = metric if denominator == cfg.evaluate.denominator else f"{metric} with {denominator}"
        result = retrieval.mean_average_precision(ranked, relevant, cfg.evaluate.k, denominator=denominator)
        groups = {"all": (result.score, result.scored)}
        groups |= retrieval.mean_by_label(result.per_query, [one.kind for one in wanted])
        groups |= retrieval.mean_by_label(result.per_query, [one.part for one in wanted])
        rows += [
            {"benchmark": benchmark, "metric": name, "group": group, "model": model, "value": value, "n": count}
            for group, (value, count) in groups.items()
            if value is not None
        ]
    return rows


def _shuffled(references: Sequence[Reference], seed: int) -> list[Reference]:
    """The references with their answers dealt out anew among the queries."""
    order = np.random.default_rng(seed).permutation(len(references))
    return [
        Reference(one.benchmark, one.index, one.kind, one.part, references[other].relevant)
        for one, other in zip(references, order, strict=True)
    ]
