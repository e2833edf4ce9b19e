"""02 of dataengine: which records join the base mix - none, the published ones, or those that the engine generates now.

The engine reads what the round before answered wrong: types are drawn by their error rates, pictures near bad cases or anywhere, a
writer is asked for one question about each, and what it writes is filtered, parsed, and turned into training samples
(specs/dataengine.md section 2). The records of earlier rounds stay in the mix.
"""

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib import files, runs
from lib.config import StageSettings
from lib.errors import DataError
from lib.progress import Bar
from lib.runs import Run
from lib.services import Request
from lib.submissions.dataengine import (
    data_prep,
    embeddings,
    fields,
    generated,
    mix,
    prompt_review,
    queries,
    question_types,
    replies,
    weights,
    writers,
)
from lib.submissions.dataengine.generated import Converted, Record
from lib.submissions.dataengine.prompt_review import Prompt
from lib.submissions.dataengine.queries import Draw, ImageFacts, Pool
from lib.submissions.dataengine.weights import Tally

READS = ("base", "data", "data_prep", "parent")
SETTINGS = ("data_prep",)

MERGED = "llava_v1_5_mix665k_dataengine.json"  # what the training script reads
GENERATED, EARLIER = "dataengine_llava.json", "earlier_rounds.json"
PUBLISHED = {wording: f"data_engine/dataengine_{wording}.json" for wording in ("llava", "minigpt4")}  # of either half
QUERIES, REPLIES, RECORDS, WEIGHTS = "queries.json", "replies.jsonl", "post_processed.json", "weight.json"
REPORT, ANSWERS, PROMPT, SHEET = "report.json", "answers.jsonl", "prompt.txt", "review.csv"
POOL, CAPTIONS, POOL_FOLDER = "coco/annotations/instances_train2017.json", "coco/annotations/captions_train2017.json", "coco/train2017"
WANTED: dict[str, dict[str, fields.Fields]] = {  # of these two
    POOL: {
        "categories": {"id": int, "name": str},
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "annotations": {"image_id": int, "category_id": int, "bbox": list},
    },
    CAPTIONS: {"annotations": {"image_id": int, "caption": str}},
}
RESULTS = "evaluation/aokvqa_eval.json"  # of 06
SHEET_SIZE = 40
BARS = {"answered wrong in the round before": "wrong", "drawn in this round": "drawn"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What the engine starts from: base mix, records of earlier rounds, the last round's results, the pool with its features.

    `prompt` are the writer's instructions.
    """

    prompt: Prompt
    mix: list[dict]
    earlier: list[Record]
    results: list[dict]
    pool: Pool | None


@dataclass(frozen=True)
class Proposal:
    """What was drawn in this round, the query and the request to the writer for each draw, and what was found while drawing."""

    known: Known
    tallies: dict[str, Tally]
    weights: dict[str, float]
    draws: list[Draw]
    queries: list[dict]
    requests: list[Request]
    findings: Counter[str]


@dataclass(frozen=True)
class Accepted:
    """What the writer replied, the records made of it, the whole mix, its manifest, and why replies were dropped."""

    proposal: Proposal
    replies: list[dict]
    parsed: list[Record]
    records: list[Record]
    merged: list[dict]
    manifest: dict[str, Any]
    dropped: Counter[str]


def read_samples(cfg: StageSettings, run: Run) -> Known:
    """The checked mix and, for the engine, what the round before left and the pictures to write about with their features."""
    base, prompt = data_prep.read_mix(run.of("data_prep")), prompt_review.read_prompt(run.given.get("augmentation.prompt"))
    if cfg.augmentation.source != "engine":
        return Known(prompt, base, [], [], None)
    before = runs.stage_folder(run.parent, "augmentation")
    earlier = [record for name in (EARLIER, GENERATED) for record in files.read_json(before / name)]
    results = files.read_json(runs.stage_folder(run.parent, "evaluate") / RESULTS)
    return Known(prompt, base, earlier, results, _open_pool(_read_images(run.data), weights.bad_cases(results), cfg, run))


def count_samples(samples: Known) -> dict:
    """Samples of the base mix, records of earlier rounds, results with errors among them, pictures of the pool."""
    wrong = sum(map(weights.is_wrong, samples.results))
    pool = len(samples.pool.images) if samples.pool else 0
    return {
        "samples of the base mix": len(samples.mix),
        "records of earlier rounds": len(samples.earlier),
        "validation questions of the round before": len(samples.results),
        "answered wrong": wrong,
        "pictures to write about": pool,
    }


def propose(samples: Known, cfg: StageSettings) -> Proposal:
    """The queries: types by weight, two bad cases each, a picture, the prompt. None where the engine is not asked for."""
    recipe = cfg.augmentation
    if samples.pool is None:
        return Proposal(samples, {}, {}, [], [], [], Counter())
    tallies = weights.count_errors(samples.results)
    weighed = weights.weigh(tallies, rule=recipe.weights, smoothing=recipe.smoothing, minimum=recipe.minimum)
    cases = weights.bad_cases(samples.results)
    draws, findings = queries.draw(cases, weighed, samples.pool, count=recipe.queries, top_k=recipe.top_k, seed=cfg.seed)
    asked = [queries.build_query(one, samples.prompt.text) for one in draws]
    requests = writers.build_requests(asked, model=recipe.language_model, parameters=writers.PARAMETERS)
    return Proposal(samples, tallies, weighed, draws, asked, requests, findings)


def count_proposals(proposals: Proposal) -> list[dict]:
    """Per type: questions of the round before, errors, weight, and how often it was drawn."""
    drawn = Counter(one.type for one in proposals.draws)
    return [
        {"type": name, "questions": one.questions, "wrong": one.wrong, "weight": proposals.weights.get(name), "drawn": drawn[name]}
        for name, one in proposals.tallies.items()
    ]


def show_proposals(proposals: Proposal) -> list[dict]:
    """The first and the longest prompt, in full."""
    prompts = [request.messages[-1]["content"] for request in proposals.requests]
    return [{"prompt": text} for text in ([prompts[0], max(prompts, key=len)] if prompts else [])]


def accept(proposals: Proposal, cfg: StageSettings, run: Run) -> Accepted:
    """Ask the writer, filter and parse, and join the records to the mix; what was dropped is counted by reason."""
    recipe, known = cfg.augmentation, proposals.known
    answered, parsed, dropped = _write(proposals, cfg, run)
    folder = {one.image.image_id: f"{POOL_FOLDER}/{one.image.file_name}" for one in proposals.draws}
    records, odd = generated.from_replies(parsed, folder)
    if recipe.source == "published":
        records, odd = generated.read_generated(run.data / PUBLISHED[recipe.wording])
    converted, unusable = generated.convert([*known.earlier, *records], recipe.view, seed=cfg.seed, wording=recipe.wording)
    converted, untrainable = _keep_trainable(converted, run.data)
    unusable += untrainable
    for reason, count in [*proposals.findings.items(), *dropped.items(), *odd.items(), *unusable.items()]:
        run.drop(reason, count)
    if recipe.source != "none" and not converted:
        raise DataError(f"augmentation.source is {recipe.source}, and no record joins the mix; the counts of this stage say why")
    merged = generated.merge(known.mix, converted)
    how = {"records": recipe.source, "as": recipe.view, "in the words of": recipe.wording}
    manifest = how | generated.build_manifest(known.mix, converted)
    return Accepted(proposals, answered, parsed, records, merged, manifest, dropped + odd + unusable)


def show_accepted(accepted: Accepted) -> list[dict]:
    """The first record of every type."""
    first: dict[object, Record] = {}
    for record in accepted.records:
        first.setdefault(record.get("qtype"), record)
    return [
        {
            "type": question_types.SEED_TYPES.get(record.get("qtype"), record.get("question_type", "")),
            "instruction": record["instruction"],
            "options": ", ".join(record.get("options", [])),
            "answer": record["answer"],
            "picture": record["image"],
        }
        for record in first.values()
    ]


def write_samples(accepted: Accepted, cfg: StageSettings, run: Run) -> list[str]:
    """Write the merged mix, its records, and every file of the way there; returns the names of the files."""
    proposal = accepted.proposal
    files.write_json(run.out / MERGED, accepted.merged)
    files.write_json(run.out / GENERATED, accepted.records)
    files.write_json(run.out / EARLIER, proposal.known.earlier)
    files.write_json(run.out / WEIGHTS, proposal.weights)
    files.write_json(run.out / QUERIES, proposal.queries)
    files.write_jsonl(run.out / REPLIES, accepted.replies)
    files.write_json(run.out / RECORDS, accepted.parsed)
    files.write_text(run.out / PROMPT, proposal.known.prompt.text)
    sheet = prompt_review.sample(
        accepted.replies, proposal.known.prompt.version, count=min(SHEET_SIZE, len(accepted.replies)), seed=cfg.seed
    )
    prompt_review.write_sheet(run.out / SHEET, sheet)
    report = {
        "manifest": accepted.manifest,
        "prompt": proposal.known.prompt.version,
        "types": count_proposals(proposal),
        "dropped": dict(accepted.dropped),
    }
    files.write_json(run.out / REPORT, report)
    return [MERGED, GENERATED, EARLIER, WEIGHTS, PROMPT, QUERIES, REPLIES, RECORDS, SHEET, REPORT]


def read_merged(folder: Path) -> list[dict]:
    """The samples that are trained on, from the folder of this stage."""
    return files.read_json(folder / MERGED)


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Error rates and draws by type, what became of the replies, what the mix is made of, and the sheet for a reviewer."""
    from lib import plots, show

    report = files.read_json(run.out / REPORT)
    sections: list[tuple[str, object]] = [("What the mix is made of:", show.record(report["manifest"]))]
    if report["types"]:
        counts = {title: {row["type"]: row[name] for row in report["types"]} for title, name in BARS.items()}
        asked = len(files.read_json(run.out / QUERIES))
        left = len(files.read_json(run.out / GENERATED))
        became = [{"what became of the replies": "record", "count": left}]
        became += [{"what became of the replies": reason, "count": count} for reason, count in report["dropped"].items()]
        sheet = (
            f"{SHEET} holds {min(SHEET_SIZE, asked)} replies for a person to judge, in a copy outside the run; "
            f"{prompt_review.COMMAND} SHEET counts the verdicts, evaluate.prompt_reviews=SHEET brings them into the report"
        )
        sections += [
            ("What the round before answered wrong, and of which types the engine then drew questions:", plots.bars(counts)),
            ("Weight is the share of wrong answers, which no number of questions makes surer:", show.table(report["types"])),
            (f"Of {asked} replies:", show.table(became)),
            ("To improve the prompt:", show.record({"version": report["prompt"], "sheet": sheet})),
        ]
    return sections


def _read_images(root: Path) -> list[ImageFacts]:
    """What COCO's two files say of the pool. Raises DataError, naming file and entry, for what is malformed."""
    documents = {}
    for name, parts in WANTED.items():
        documents[name] = fields.read_object(root / name, dict.fromkeys(parts, list))
        for part, wanted in parts.items():
            for number, item in enumerate(documents[name][part], start=1):
                fields.require_fields(item, wanted, f"{root / name}: {part} {number}")
    return queries.read_facts(documents[POOL], documents[CAPTIONS])


def _open_pool(images: list[ImageFacts], cases: dict[str, list[dict]], cfg: StageSettings, run: Run) -> Pool:
    """The pictures to write about that are there, with their features and those of the bad cases' pictures."""
    there = [one for one in images if (run.data / POOL_FOLDER / one.file_name).is_file()]
    run.drop("picture of the pool missing", len(images) - len(there))
    if not there:
        raise DataError(f"{run.data / POOL_FOLDER}: none of the {len(images)} pictures of {POOL} is there; bring them")
    anchors = list(dict.fromkeys(case["image_path"] for own in cases.values() for case in own))
    names = [f"{POOL_FOLDER}/{one.file_name}" for one in there]
    found = embeddings.embed([*names, *anchors], run.data, embedding=cfg.augmentation.embedding, model=run.base, cache=run.out / "features")
    rows = dict(zip(anchors, found[len(names) :], strict=True))
    return Pool(there, found[: len(names)], lambda case: rows[case["image_path"]])


def _keep_trainable(converted: list[Converted], root: Path) -> tuple[list[Converted], Counter[str]]:
    """The samples that can be trained, and what was found: published records come without their pictures."""
    kept, findings = mix.check_mix([one.sample for one in converted], root)
    there = {sample["id"]: sample for sample in kept}
    return [replace(one, sample=there[one.sample["id"]]) for one in converted if one.sample["id"] in there], Counter(
        finding.reason for finding in findings
    )


def _write(proposals: Proposal, cfg: StageSettings, run: Run) -> tuple[list[dict], list[Record], Counter[str]]:
    """The writer's replies, the questions in them, and why others hold none."""
    recipe = cfg.augmentation
    service = data_prep.open_service(recipe.service, writers.stand_in, run.out / ANSWERS, cfg)
    with Bar("writing questions", len(proposals.requests)) as bar:
        outcomes = service.ask(proposals.requests, bar.at) if proposals.requests else []
    answered = writers.add_replies(proposals.queries, outcomes)
    return answered, *replies.read_replies(answered, rules=recipe.quirks.replies)
