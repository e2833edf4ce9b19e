"""06 of dataengine: the scores of every benchmark, the files for its server, and what the next round starts from.

For the next round: A-OKVQA's results by type, the bad cases and the weights, in the published files (specs/dataengine.md, section 2.1).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib import files, paths, runs, services
from lib.config import StageSettings
from lib.metrics import judged
from lib.progress import Bar
from lib.runs import Run
from lib.submissions.dataengine import benchmarks, data_prep, infer, judging, minigpt4, prompt_review, scoring, uploads, weights
from lib.submissions.dataengine.infer import MODELS
from lib.submissions.dataengine.question_types import group_by_type
from lib.submissions.dataengine.scoring import Answers

READS = ("data", "data_prep", "infer", "parent")
SETTINGS = ("infer", "data_prep", "augmentation", "rounds")

METRICS, REFERENCES = "metrics.json", "references"
REVIEWS, SUMMARY = "llava-bench-reviews.jsonl", "llava-bench-summary.json"
RESULTS, BAD_CASES, WEIGHTS = "evaluation/aokvqa_eval.json", "bad_case_aokvqa_classified.json", "weight.json"
TABLE = (  # of both READMEs
    ("seed", "accuracy"), ("mmbench", "circular_accuracy"), ("mme", "perception"), ("mme", "cognition"), ("mme", "total"),
    ("gqa", "accuracy"), ("vqav2_val", "vqa_accuracy"), ("scienceqa", "accuracy"), ("scienceqa", "image_accuracy"),
    ("okvqa", "vqa_accuracy"), ("vizwiz_val", "accuracy"), ("vsr", "accuracy"),
)  # fmt: skip

References = dict[str, Any]
Predictions = dict[str, dict[str, list[dict]]]  # model -> benchmark -> lines of its answer file


def read_references(cfg: StageSettings, run: Run) -> References:
    """Benchmark -> its published annotations; A-OKVQA's questions with the types that 01 found, and verdicts on the writer's replies."""
    found = {name: benchmarks.read_references(run.data, name) for name in cfg.infer.benchmarks if name != "aokvqa"}
    if "aokvqa" in cfg.infer.benchmarks:
        found["aokvqa"] = data_prep.read_typed(run.of("data_prep"))
    if "evaluate.prompt_reviews" in run.given:
        found[scoring.PROMPT] = [asdict(one) for one in prompt_review.read_sheets([run.given["evaluate.prompt_reviews"]])]
    return found


def count_references(references: References) -> list[dict]:
    """Per benchmark: who scores it, and how many entries its annotations have."""
    by = {**dict.fromkeys(scoring.UPLOADED, "a server"), **dict.fromkeys(scoring.JUDGED, "a judge"), scoring.PROMPT: "a person"}
    return [
        {"benchmark": name, "entries": len(_entries(content)), "scored by": by.get(name, "the kit")} for name, content in references.items()
    ]


def show_reference(references: References) -> dict:
    """The first question of the first benchmark."""
    name, content = next(iter(references.items()))
    entries = _entries(content)
    first = entries[0] if isinstance(entries, list) else next(iter(entries.items()))
    return {"benchmark": name, "first": first}


def main_scores(scores: Sequence[dict]) -> list[dict]:
    """What the READMEs' tables have, and the pairing of SEED-Bench's answers with other questions of their type."""
    wanted = {place for place in TABLE if place[0] != "mme"}
    return [row for row in scores if row["group"] == "all" and (row["benchmark"], row["metric"]) in wanted]


def group_scores(scores: Sequence[dict]) -> list[dict]:
    """SEED-Bench and the validation questions by type, both models."""
    wanted = {("seed", "type_accuracy"), ("aokvqa", "error")}
    return [row for row in scores if row["group"] != "all" and (row["benchmark"], row["metric"]) in wanted and row["model"] in MODELS]


def read_predictions(run: Run) -> Predictions:
    """Model -> benchmark -> the lines of its answer file, as 05 wrote them."""
    return _read_predictions(run.of("infer"))


def score(predictions: Predictions, references: References, cfg: StageSettings) -> list[dict]:
    """The rows of every benchmark and model (lib.submissions.dataengine.scoring), of SEED-Bench's control, and of the writer's prompt."""
    rows = []
    for model, answers in predictions.items():
        for name, lines in answers.items():
            rows += scoring.score(name, references[name], Answers(model, _read(name, lines, cfg)), aokvqa=cfg.evaluate.quirks.aokvqa)
    if "seed" in references:
        swapped = scoring.rotated(references["seed"], Answers("finetuned", _read("seed", predictions["finetuned"]["seed"], cfg)))
        rows += scoring.score("seed", references["seed"], swapped, aokvqa=cfg.evaluate.quirks.aokvqa)
    rows += scoring.prompt_rows(references.get(scoring.PROMPT, []))
    seen = _records(cfg)
    return [row | ({"records": seen[row["model"]]} if row["model"] in seen else {}) for row in rows]


def measure_scores(run: Run) -> list[dict]:
    """The validation measures that 05 took, as rows like those of `score`."""
    return _measure_rows(files.read_json(run.of("infer") / infer.MEASURES))


def data_scores(run: Run) -> list[dict]:
    """What claims about the data are answered by: samples of the mix, and questions of each benchmark."""
    report = files.read_json(run.of("data_prep") / data_prep.REPORT)
    return [scoring.row("data", name, "all", "finetuned", float(count), max(1, count)) for name, count in report["counts"].items()]


def write_scores(scores: list[dict], references: References, run: Run) -> list[str]:
    """Write metrics.json and the annotations, so that the scores can be computed again from what a run keeps."""
    files.write_json(run.out / METRICS, {"scores": scores})
    for name, content in references.items():
        files.write_text(run.out / REFERENCES / f"{name}.json", json.dumps(content, ensure_ascii=False) + "\n")
    return [METRICS, *(f"{REFERENCES}/{name}.json" for name in references)]


def write_submission(predictions: Predictions, cfg: StageSettings, run: Run) -> list[dict]:
    """Write what servers and official tools take, and what the next round reads; returns the files by benchmark."""
    rows = []
    references = _read_references(run.out)
    for name, lines in predictions["finetuned"].items():
        written = uploads.write(name, references[name], _read(name, lines, cfg), run.out)
        rows += [{"benchmark": name, "file": str(path.relative_to(run.out))} for path in written]
    if "llava-bench" in references:
        rows += [{"benchmark": "llava-bench", "file": name} for name in _judge(references["llava-bench"], predictions, cfg, run)]
    if "aokvqa" in references:
        results = scoring.typed_results(references["aokvqa"], Answers("finetuned", predictions["finetuned"]["aokvqa"]))
        weighed = weights.weigh(weights.count_errors(results), rule="errors", smoothing=0.0, minimum=0)
        contents = {RESULTS: results, BAD_CASES: group_by_type(one for own in weights.bad_cases(results).values() for one in own)}
        for name, content in (contents | {WEIGHTS: weighed}).items():
            files.write_json(run.out / name, content)
            rows.append({"benchmark": "aokvqa", "file": name})
    return rows


def rescore(folder: Path, cfg: StageSettings) -> list[dict]:
    """The scores computed again from the answers and annotations in a run folder: what `verify` compares with metrics.json."""
    measures = _measure_rows(files.read_json(folder / "05-infer" / infer.MEASURES))
    return score(_read_predictions(folder / "05-infer"), _read_references(folder / "06-evaluate"), cfg) + measures


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """The READMEs' main result round by round, SEED-Bench by type against the round before, and the weights of the next round."""
    from lib import show

    rounds = [_by_place(folder / METRICS) for folder in (*_earlier(run), run.out)]
    columns = [place for place in TABLE if place[0] in cfg.infer.benchmarks]
    table = [_table_row("the base weights", "base", rounds[0], columns)] if any(place[-1] == "base" for place in rounds[0]) else []
    table += [_table_row(f"round {number}", "finetuned", found, columns) for number, found in enumerate(rounds)]
    before = "baseline" if run.parent is not None else "base"
    types = [name for _, metric, name, model in rounds[-1] if metric == "type_accuracy" and model == "finetuned"]
    sections = [
        ("The READMEs' main result, round by round; mmbench and vqav2_val are proxies of what servers measure:", show.table(table)),
        (
            f"SEED-Bench by type, percent with the binomial standard error; before: {before}:",
            show.table([_type_row(name, before, rounds[-1]) for name in types]),
        ),
    ]
    judged_prompts = [row for (benchmark, *_), row in rounds[-1].items() if benchmark == scoring.PROMPT]
    if judged_prompts:
        shown = [{"version": row["group"], **{name: row[name] for name in ("value", "standard_error", "n")}} for row in judged_prompts]
        sections.append(
            ("Replies that a person found right, percent of those judged, by version of the writer's prompt:", show.table(shown))
        )
    if (run.out / SUMMARY).is_file():
        found = files.read_json(run.out / SUMMARY)
        sections.append((f"LLaVA-Bench, judged by {found['judge']}, the reference's answers beside ours:", show.table(found["categories"])))
    if (run.out / WEIGHTS).is_file():
        weighed = [{"type": name, "weight": value} for name, value in files.read_json(run.out / WEIGHTS).items()]
        sections.append(("By what the next round draws its types, the share of wrong answers:", show.table(weighed)))
    return sections


def _entries(content: Any) -> Any:
    """What the annotations of a benchmark list, without the documents around it."""
    while isinstance(content, dict) and {"questions", "data"} & content.keys():
        content = content.get("questions", content.get("data"))
    return content


def _read(benchmark: str, lines: list[dict], cfg: StageSettings) -> list[dict]:
    """The lines of an answer file as the half of the publication reads them in whose words was asked."""
    return minigpt4.read_answers(benchmark, lines) if cfg.infer.wording == "minigpt4" else lines


def _records(cfg: StageSettings) -> dict[str, str]:
    """Which records each model has seen, which says what row of the README's table it can be held against.

    None of them, where it was trained or asked in the words of the other half, or trained on captions alone.
    """
    if cfg.data_prep.mix == "captions":
        return {"finetuned": "none, captions alone"}
    other = ", in minigpt4's words" if "minigpt4" in (cfg.augmentation.wording, cfg.infer.wording) else ""
    before = "none" if cfg.rounds.number == 1 else "engine"
    return {"finetuned": f"{cfg.augmentation.source}{other}", "baseline": f"{before}{other}"}


def _judge(references: Mapping[str, Sequence[Mapping]], predictions: Predictions, cfg: StageSettings, run: Run) -> list[str]:
    """Have LLaVA-Bench's answers judged; writes the reviews and their summary, which are no scores of this kit."""
    lines, recipe = predictions["finetuned"]["llava-bench"], cfg.evaluate
    requests = judging.build_requests(references, lines, model=recipe.language_model)
    service = data_prep.open_service(recipe.service, judging.stand_in, run.out / "judging.jsonl", cfg)
    with Bar("judging answers", len(requests)) as bar:
        outcomes = service.ask(requests, bar.at)
    for reason, count in services.count_failures(outcomes).items():
        run.drop(f"answer not judged: {reason}", count)
    reviews = judging.read_reviews(references, lines, outcomes)
    summaries = judged.summarise_reviews(reviews, unreadable=recipe.quirks.reviews)
    files.write_jsonl(run.out / REVIEWS, reviews)
    files.write_json(run.out / SUMMARY, {"judge": recipe.language_model, "categories": judging.summary_rows(summaries)})
    return [REVIEWS, SUMMARY]


def _earlier(run: Run) -> list[Path]:
    """The folders of this stage in the rounds before, the first round first."""
    found: list[Path] = []
    folder = run.parent
    while folder is not None:
        found.insert(0, runs.stage_folder(folder, "evaluate"))
        parent = runs.read(folder)["parent"]
        folder = paths.ROOT / parent if parent else None
    return found


def _by_place(path: Path) -> dict[tuple, dict]:
    """The rows of a metrics.json by benchmark, metric, group and model."""
    return {(row["benchmark"], row["metric"], row["group"], row["model"]): row for row in files.read_json(path)["scores"]}


def _table_row(title: str, model: str, found: Mapping[tuple, dict], columns: Sequence[tuple[str, str]]) -> dict:
    """One row of a README's table."""
    known = {f"{benchmark} {metric}": found.get((benchmark, metric, "all", model)) for benchmark, metric in columns}
    return {"model": title, **{name: None if row is None else row["value"] for name, row in known.items()}}


def _type_row(name: str, model: str, found: Mapping[tuple, dict]) -> dict:
    before, after = (found["seed", "type_accuracy", name, one] for one in (model, "finetuned"))
    return {
        "type": name,
        "questions": after["n"],
        "before": before["value"],
        "after": after["value"],
        "standard error": after["standard_error"],
        "difference": after["value"] - before["value"],
    }


def _read_predictions(folder: Path) -> Predictions:
    names = {model: sorted(folder.glob(f"*-{model}.jsonl")) for model in MODELS}
    return {
        model: {path.name.removesuffix(f"-{model}.jsonl"): files.read_jsonl(path) for path in found}
        for model, found in names.items()
        if found
    }


def _read_references(folder: Path) -> References:
    return {path.stem: files.read_json(path) for path in sorted((folder / REFERENCES).glob("*.json"))}


def _measure_rows(measures: Mapping[str, Mapping[str, float]]) -> list[dict]:
    return [
        scoring.row("val", f"answer {metric}", "all", model, value, int(values["tokens"]))
        for model, values in measures.items()
        for metric, value in values.items()
        if metric != "tokens"
    ]
