"""01 of dataengine: read the base mix, or the captions of LLaVA's first stage, check every sample, and sort the validation questions.

The original meets a missing picture in the middle of the training; here all are looked for first (specs/dataengine.md, section 9).
The validation questions are A-OKVQA's, as in the engine's first version; those that nobody could sort are left out and counted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import files, services, store
from lib.config import StageSettings
from lib.conversation import IMAGE
from lib.errors import DataError
from lib.progress import Bar
from lib.runs import Run
from lib.services import Request, Service
from lib.submissions.dataengine import benchmarks, mix, question_types
from lib.submissions.dataengine.mix import Finding
from lib.submissions.dataengine.question_types import AOKVQA_TYPES, SEED_TYPES, Sample

READS = ("data",)
SETTINGS = ("infer",)

# File of each mix, and the folder of its pictures.
MIXES = {
    "instructions": ("llava_v1_5_mix665k.json", ""),
    "captions": ("LLaVA-Pretrain/blip_laion_cc_sbu_558k.json", "LLaVA-Pretrain/images"),
}
MIX, TYPED, REPORT, ANSWERS = "mix.jsonl", "aokvqa_classified.json", "report.json", "typing.jsonl"
VAL_IMAGES = "coco/val2017"
TYPES = {"seed": tuple(SEED_TYPES.values()), "aokvqa": AOKVQA_TYPES}


@dataclass(frozen=True)
class Annotations:
    """The samples of the base mix as they stand in its file, the validation questions, and how many questions each benchmark has."""

    mix: list[dict]
    val: list[Sample]
    asked: dict[str, int]


@dataclass(frozen=True)
class Samples:
    """The samples that can be trained, the validation questions with their types, and the report on both."""

    mix: list[dict]
    typed: list[Sample]
    report: dict


def read_annotations(cfg: StageSettings, run: Run) -> Annotations:
    """Read mix, validation questions and benchmarks. Raises DataError, naming file and row, where one is malformed or empty."""
    name, pictures = MIXES[cfg.data_prep.mix]
    samples = mix.read_mix(run.data / name, pictures)
    if not samples:
        raise DataError(f"{run.data / name}: the list is empty; bring the published file, or make the toy data again")
    asked = {name: len(benchmarks.read_questions(run.data, name)) for name in cfg.infer.benchmarks}
    empty = [name for name, count in asked.items() if not count]
    if empty:
        raise DataError(f"{run.data}: the question file of {empty[0]} is empty; bring it, or take {empty[0]} out of infer.benchmarks")
    val = list(benchmarks.read_references(run.data, "aokvqa"))
    if not val:
        raise DataError(f"{run.data / benchmarks.AOKVQA}: the list is empty; bring the validation questions, or make the toy data again")
    return Annotations(samples, val, asked)


def count_annotations(annotations: Annotations) -> dict:
    """Samples by the collection of their pictures, questions to validate on, and questions of each benchmark."""
    sources = Counter(mix.source_of(sample) for sample in annotations.mix)
    asked = {f"questions of {name}": count for name, count in annotations.asked.items()}
    return {f"samples, {source}": count for source, count in sorted(sources.items())} | {"to validate on": len(annotations.val)} | asked


def find_plain(annotations: Annotations) -> dict:
    """The first sample with a picture, in full."""
    return next((sample for sample in annotations.mix if "image" in sample), annotations.mix[0])


def find_odd(annotations: Annotations) -> dict:
    """The first sample without a picture, or that of the most turns."""
    bare = next((sample for sample in annotations.mix if "image" not in sample), None)
    return bare or max(annotations.mix, key=lambda sample: len(sample["conversations"]))


def build_samples(annotations: Annotations, cfg: StageSettings, run: Run) -> Samples:
    """Check every sample and its picture, and have the validation questions sorted. Raises DataError if nothing is left to train."""
    kept, findings = mix.check_mix(annotations.mix, run.data)
    if not kept:
        first = next(finding for finding in findings if finding.drops)
        raise DataError(
            f"{run.data / MIXES[cfg.data_prep.mix][0]}: none of {len(annotations.mix)} samples can be trained; the first, {first.sample}: {first.reason}; "
            "bring the file and its pictures again"
        )
    typed, problems = _sort_by_type(annotations.val, cfg, run)
    if not typed:
        reasons = ", ".join(f"{reason} {count}" for reason, count in problems.items())
        raise DataError(
            f"none of {len(annotations.val)} validation questions was given a type ({reasons}); see data_prep.types and service"
        )
    for reason, count in [*Counter(finding.reason for finding in findings).items(), *problems.items()]:
        run.drop(reason, count)
    types = Counter(sample["question_type"] for sample in typed)
    report = {
        "counts": {
            "samples": len(annotations.mix),
            "trained": len(kept),
            "text only": sum("image" not in sample for sample in kept),
            "to validate on": len(typed),
            **{name: count for name, count in annotations.asked.items() if name != "aokvqa"},
        },
        "types of the validation questions": dict(types),
        "findings": _examples(findings),
    }
    return Samples(kept, typed, report)


def write_samples(samples: Samples, cfg: StageSettings, run: Run) -> list[str]:
    """Write the checked mix, the sorted validation questions, the report, and the pictures that MMBench keeps in its table."""
    files.write_jsonl(run.out / MIX, samples.mix)
    files.write_json(run.out / TYPED, question_types.group_by_type(samples.typed))
    files.write_json(run.out / REPORT, samples.report)
    if "mmbench" in cfg.infer.benchmarks:
        benchmarks.unpack_pictures(run.data, picture_root(run.out))
    return [MIX, TYPED, REPORT]


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Some pictures of the mix with what is first asked or said about them, the types of the validation questions, and what was odd."""
    from lib import llava, plots, show

    samples = [sample for sample in read_mix(run.out) if "image" in sample][:6]
    pictures = [llava.read_picture(run.data / sample["image"]) for sample in samples]
    what, turn = ("caption of", 1) if cfg.data_prep.mix == "captions" else ("first question about", 0)
    words = [sample["conversations"][turn]["value"].removeprefix(f"{IMAGE}\n").split("\n")[0][:40] for sample in samples]
    report = files.read_json(run.out / REPORT)
    types = [{"type": name, "questions": count} for name, count in report["types of the validation questions"].items()]
    odd = [{"reason": reason, **found} for reason, found in report["findings"].items()]
    return [
        (f"Pictures of the mix, and the {what} each:", plots.picture_grid(pictures, words, columns=3)),
        ("The validation questions by type:", show.table(types)),
        ("What was odd in the base mix, by reason and folder of the picture; the first kinds drop a sample:", show.table(odd)),
    ]


def read_mix(folder: Path) -> list[dict]:
    """The samples that can be trained, from the folder of this stage."""
    return list(files.read_jsonl(folder / MIX))


def read_typed(folder: Path) -> list[Sample]:
    """The validation questions with their types, from the folder of this stage."""
    return [sample for group in files.read_json(folder / TYPED).values() for sample in group]


def picture_root(folder: Path) -> Path:
    """Where the pictures lie that came out of tables, in the folder of this stage."""
    return folder / store.MEDIA


def open_service(service: str, stand_in: Callable[[Request], str], answers: Path, cfg: StageSettings) -> Service:
    """Who answers the requests of a stage, as many at once and as patiently as the machine's settings say."""
    return services.open_service(service, stand_in, answers, at_once=cfg.machine.requests, timeout=cfg.machine.timeout)


def _sort_by_type(samples: Sequence[Sample], cfg: StageSettings, run: Run) -> tuple[list[Sample], Counter[str]]:
    """The questions with their types, asked for in the published batches, and why others have none."""
    recipe, types = cfg.data_prep, TYPES[cfg.data_prep.types]
    requests = question_types.build_requests(samples, types, model=recipe.language_model, parameters=question_types.PARAMETERS)
    service = open_service(recipe.service, question_types.stand_in, run.out / ANSWERS, cfg)
    with Bar("sorting questions", len(requests)) as bar:
        outcomes = service.ask(requests, bar.at)
    problems: Counter[str] = Counter()
    typed: list[Sample] = []
    for batch, outcome in zip(question_types.in_batches(samples), outcomes, strict=True):
        found, odd = question_types.parse_types(outcome.text, batch, types, folder=VAL_IMAGES)
        typed += found
        problems += odd
    return typed, problems


def _examples(findings: Sequence[Finding]) -> dict[str, dict]:
    """Reason -> how many samples, whether they are left out, their folders, and the first one's id."""
    first = {finding.reason: finding for finding in reversed(findings)}
    return {
        reason: {
            "count": sum(sources.values()),
            "left out": first[reason].drops,
            "folders": ", ".join(f"{source} {count}" for source, count in sources.items()),
            "first": first[reason].sample,
        }
        for reason, sources in mix.count(findings).items()
    }
