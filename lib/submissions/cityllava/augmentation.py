"""02 of cityllava: sort the captions' sentences by a language model, make short questions of them, choose what is trained on.

The published scripts stop half-way (specs/cityllava.md section 12); here each of their files is written, and what they would have
stopped at is counted.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import files, services
from lib.config import StageSettings
from lib.errors import DataError
from lib.progress import Bar
from lib.runs import Run
from lib.services import Request, Service
from lib.submissions.cityllava import annotations, data_prep, filters, short_qa
from lib.submissions.cityllava.annotations import Finding, Kind
from lib.submissions.cityllava.filters import Extraction
from lib.submissions.cityllava.short_qa import KINDS, Record

READS = ("data_prep",)
SETTINGS = ("data_prep",)

REPORT, ANSWERS = "report.json", "answers.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captioned:
    """The training records with both captions, the boxes they were rendered from, and the cameras that the reference list names."""

    records: list[Record]
    extraction: Extraction
    reference: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Proposal:
    """What the language model is asked: one request per record and kind of caption."""

    samples: Captioned
    requests: dict[Kind, list[Request]]


@dataclass(frozen=True)
class Accepted:
    """The samples after each step of the published construction, by the name of its file, and why others are not among them."""

    steps: dict[str, list[Record]]
    findings: list[Finding]

    @property
    def trained(self) -> list[Record]:
        """What is trained on."""
        return self.steps[filters.CHECKED]


def read_samples(cfg: StageSettings, run: Run) -> Captioned:
    """The training records and boxes that 01 wrote. Raises DataError if there is no record."""
    folder = run.of("data_prep")
    found = data_prep.read_records(folder, "train")
    if not found:
        raise DataError(f"{folder}: no training record; see the report of 01-data-prep for what is missing")
    return Captioned(found, data_prep.read_extraction(folder, "train"), data_prep.read_reference(folder))


def count_samples(samples: Captioned) -> dict:
    """Records, the captions in them, and videos with boxes."""
    boxed = sum(bool(entry["phase_number"]) for entry in samples.extraction.values())
    return {"records": len(samples.records), "captions": len(KINDS) * len(samples.records), "videos with boxes": boxed}


def propose(samples: Captioned, cfg: StageSettings) -> Proposal:
    """The requests: the published prompt around the numbered sentences of every caption; none where short questions are off."""
    recipe = cfg.augmentation
    asked = samples.records if recipe.short_qa else []
    # Qwen was given a system message, GPT-4 was not.  (specs/cityllava.md section 4)
    system = short_qa.QWEN_SYSTEM if "qwen" in recipe.language_model.lower() else None
    return Proposal(
        samples,
        {kind: short_qa.build_requests(asked, kind, model=recipe.language_model, system=system, parameters={}) for kind in KINDS},
    )


def count_proposals(proposals: Proposal) -> list[dict]:
    """Requests per kind of caption, and how many of them are different."""
    return [
        {"about": kind, "requests": len(found), "different": len({request.key for request in found})}
        for kind, found in proposals.requests.items()
    ]


def show_proposals(proposals: Proposal) -> list[dict]:
    """The first request and the longest, in full."""
    found = [request for requests in proposals.requests.values() for request in requests]
    chosen = [found[0], max(found, key=lambda one: len(_question(one)))] if found else []
    return [{"model": one.model, "message": _question(one)} for one in chosen]


def accept(proposals: Proposal, cfg: StageSettings, run: Run) -> Accepted:
    """Ask, merge, filter: every step of the published construction, up to the samples that are trained on."""
    recipe, samples = cfg.augmentation, proposals.samples
    service = _open_service(cfg, run)
    steps: dict[str, list[Record]] = {}
    findings: list[Finding] = []
    merged: list[Record] = []
    for kind in KINDS:
        answered = _ask(service, kind, proposals, run) if recipe.short_qa else [one | {f"{kind}_response": ""} for one in samples.records]
        own, problems = short_qa.merge(answered, kind, letters=recipe.quirks.letters, glued_question=recipe.quirks.glued_question)
        findings += problems if recipe.short_qa else []
        steps |= {short_qa.CLASSIFIED[kind]: answered, short_qa.MERGED_KIND[kind]: own}
        merged += own
    tagged = filters.add_tags(merged, samples.extraction)
    asked, unasked = filters.filter_questions(tagged)
    sampled, undrawn = filters.sample_short(asked, seed=cfg.seed)
    staged = filters.add_stages(sampled, ego_wording=recipe.quirks.ego_wording)
    viewed, other_views = filters.filter_views(staged, samples.reference) if recipe.reference_views else (staged, [])
    large, small = filters.filter_areas(viewed, samples.extraction, threshold=recipe.area_threshold)
    media = data_prep.media_root(run.of("data_prep"))
    checked, missing = filters.check_images(large, lambda path: (media / path).is_file())
    steps |= {short_qa.MERGED: merged, filters.SAMPLED: sampled, filters.STAGED: staged, filters.FILTERED: large, filters.CHECKED: checked}
    findings += [*unasked, *undrawn, *other_views, *small, *missing]
    for reason, count in Counter(finding.reason for finding in findings).items():
        run.drop(reason, count)
    if not checked:
        raise DataError("no training sample is left; the counts of this stage say what each step dropped")
    return Accepted(steps, findings)


def show_accepted(accepted: Accepted) -> list[dict]:
    """A short question, one of the other kind, and a full one, as they are trained on."""
    by_question = {record["conversations"][0]["value"].partition("stage. ")[2]: record for record in accepted.trained}
    return [
        {"question": question, "answer": record["conversations"][1]["value"], "picture": record["image"], "full": bool(record["full_flag"])}
        for question, record in list(by_question.items())[:8]
    ]


def write_samples(accepted: Accepted, cfg: StageSettings, run: Run) -> list[str]:
    """Write every published file and the report of what was dropped; returns the names of the files."""
    for name, records in accepted.steps.items():
        if name in short_qa.CLASSIFIED.values():
            files.write_jsonl(run.out / name, records)
        else:
            files.write_json(run.out / name, records)
    missing = [finding.thing for finding in accepted.findings if finding.reason.endswith("picture missing")]
    files.write_json(run.out / filters.MISSING, missing)
    counts = {Path(name).name: len(records) for name, records in accepted.steps.items()}
    files.write_json(run.out / REPORT, {"samples": counts, "dropped": annotations.summarize(accepted.findings)})
    return [*accepted.steps, filters.MISSING, REPORT]


def read_trained(folder: Path) -> list[Record]:
    """The samples that are trained on, as written into the stage's folder."""
    return files.read_json(folder / filters.CHECKED)


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """How many samples each step leaves, what is asked how often, and why samples were dropped."""
    from lib import show

    report = files.read_json(run.out / REPORT)
    counts = Counter(record["conversations"][0]["value"].partition("stage. ")[2] for record in read_trained(run.out))
    steps = [{"file": name, "records": count} for name, count in report["samples"].items()]
    dropped = [{"reason": reason, "count": found["count"], "first": found["first"][0]} for reason, found in report["dropped"].items()]
    return [
        ("Records in each file of the published construction, in the order in which they are made:", show.table(steps)),
        ("What is asked in training, and how often:", show.table([{"question": text, "samples": n} for text, n in counts.most_common()])),
        ("What was dropped or odd, by reason:", show.table(dropped)),
    ]


def _open_service(cfg: StageSettings, run: Run) -> Service:
    machine = cfg.machine
    return services.open_service(
        cfg.augmentation.service, short_qa.stand_in, run.out / ANSWERS, at_once=machine.requests, timeout=machine.timeout
    )


def _ask(service: Service, kind: Kind, proposals: Proposal, run: Run) -> list[Record]:
    requests: Sequence[Request] = proposals.requests[kind]
    with Bar(f"classifying {kind} captions", len(requests)) as bar:
        outcomes = service.ask(requests, bar.at)
    for reason, count in services.count_failures(outcomes).items():
        run.drop(f"{kind} caption not classified: {reason}", count)
    return short_qa.add_answers(proposals.samples.records, kind, outcomes)


def _question(request: Request) -> str:
    return request.messages[-1]["content"]
