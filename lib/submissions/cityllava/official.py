"""The official score of AI City Track 2: files, aggregation, and the submission (specs/cityllava.md section 10).

Every phase of the ground truth counts. What a prediction lacks counts as zero, what it has too much is ignored, of two records with
one label the last counts, and a label counts as it is written: 4 is not "4". A malformed record ends the scoring, as it ends the
official evaluator; so does an empty caption in the ground truth, whose CIDEr the evaluator cannot compute.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import files
from lib.errors import DataError
from lib.metrics import captions
from lib.metrics.captions import CaptionScore, Synonyms
from lib.submissions.cityllava.annotations import KINDS, PHASES, parse_phase

SUFFIX = "_caption.json"
UNSCORED = "vehicle_view"  # its captions are those of the overhead view
LABELS = tuple(str(number) for number in range(len(PHASES)))
# How names of scenarios begin in WTS and in BDD_PC_5K; the challenge's score is the mean of the two.
CORPORA = {"internal": "2023", "external": "video"}
MOST_PROBLEMS_NAMED = 5

Label = str | int


@dataclass(frozen=True)
class PhaseCaptions:
    """The two captions of one phase."""

    pedestrian: str
    vehicle: str


Captions = dict[str, dict[Label, PhaseCaptions]]  # by scenario and label


@dataclass(frozen=True)
class PhaseScore:
    """The scores of one phase of a scenario, zero where the prediction lacks it."""

    scenario: str
    label: Label
    pedestrian: CaptionScore
    vehicle: CaptionScore
    missing: bool


@dataclass(frozen=True)
class Row:
    """Means over phases of scenarios; `missing` of them are not in the prediction."""

    name: str
    phases: int
    missing: int
    pedestrian: CaptionScore
    vehicle: CaptionScore

    @property
    def both(self) -> CaptionScore:
        """The mean of pedestrian and vehicle."""
        return captions.mean([self.pedestrian, self.vehicle])

    @property
    def score(self) -> float:
        """The official formula, 0 to 100."""
        return self.both.score


@dataclass(frozen=True)
class OfficialScore:
    """The challenge's score, 0 to 100, and the rows behind it; None if the ground truth lacks WTS or BDD_PC_5K."""

    challenge: float | None
    corpora: tuple[Row, ...]
    scenarios: tuple[Row, ...]
    phases: tuple[Row, ...]
    every: tuple[PhaseScore, ...]
    with_synonyms: bool

    def table(self, rows: Iterable[Row]) -> list[dict[str, str | int | float]]:
        """The rows for display; the title of METEOR's column says whether WordNet's synonyms were used."""
        meteor = f"METEOR ({'WordNet 3.0' if self.with_synonyms else 'no synonyms'})"
        return [
            {
                "": row.name,
                "phases": row.phases,
                "missing": row.missing,
                "BLEU-4": row.both.bleu,
                meteor: row.both.meteor,
                "ROUGE-L": row.both.rouge_l,
                "CIDEr": row.both.cider,
                "pedestrian": row.pedestrian.score,
                "vehicle": row.vehicle.score,
                "score": row.score,
            }
            for row in rows
        ]


def score(references: Captions, predictions: Captions, synonyms: Synonyms | None) -> OfficialScore:
    """The official score of predictions, by data set, scenario and phase. Raises DataError for a scenario of neither data set."""
    scored = score_phases(references, predictions, synonyms)
    corpora = _rows(scored, lambda one: corpus_of(one.scenario), CORPORA)
    return OfficialScore(
        challenge=sum(row.score for row in corpora) / len(corpora) if len(corpora) == len(CORPORA) else None,
        corpora=corpora,
        scenarios=_rows(scored, lambda one: one.scenario, references),
        phases=_rows(scored, lambda one: str(one.label), sorted({str(one.label) for one in scored})),
        every=tuple(scored),
        with_synonyms=synonyms is not None,
    )


def score_phases(references: Captions, predictions: Captions, synonyms: Synonyms | None) -> list[PhaseScore]:
    """The scores of every phase of the references, in their order. Raises DataError if there is none, or a reference is empty."""
    scored = []
    for scenario, phases in references.items():
        for label, reference in phases.items():
            _require_text(reference, f"{scenario}, label {label!r}")
            prediction = predictions.get(scenario, {}).get(label)
            pair = [captions.ZERO, captions.ZERO]
            if prediction is not None:
                pair = [captions.score(getattr(prediction, kind), getattr(reference, kind), synonyms) for kind in KINDS]
            scored.append(PhaseScore(scenario, label, *pair, missing=prediction is None))
    if not scored:
        raise DataError("the ground truth holds no phase; nothing can be scored against it")
    return scored


def mean_row(name: str, scored: Sequence[PhaseScore]) -> Row:
    """The means over at least one phase."""
    means = (captions.mean([getattr(one, kind) for one in scored]) for kind in KINDS)
    return Row(name, len(scored), sum(one.missing for one in scored), *means)


def corpus_of(scenario: str) -> str:
    """The data set of a scenario: internal (WTS) or external (BDD_PC_5K). Raises DataError for a name of neither."""
    for corpus, beginning in CORPORA.items():
        if scenario.startswith(beginning):
            return corpus
    raise DataError(f"scenario {scenario!r} belongs to neither data set; names begin with 2023 (WTS) or video (BDD_PC_5K)")


def scenario_name(filename: str) -> str:
    """The scenario of a caption file. The evaluator strips the suffix's letters instead, which for real names is the same."""
    return filename.removesuffix(SUFFIX)


def read_ground_truth(folders: Iterable[Path]) -> Captions:
    """The references of all caption files below the folders, vehicle views left out, labels as digits even where they are names.

    Raises DataError for a file that is no caption file, a scenario that two files describe, an unknown label, or no file at all.
    """
    references: Captions = {}
    folders = list(folders)
    for path in (path for folder in folders for path in _scored_files(folder)):
        scenario = scenario_name(path.name)
        if scenario in references:
            raise DataError(f"{path}: a second file with captions of {scenario}; keep one in the ground truth")
        document = files.read_json(path)
        entries = document.get("event_phase") if isinstance(document, dict) else None
        phases = parse_captions({scenario: entries}, str(path))[scenario]
        references[scenario] = {_digit(label, path): texts for label, texts in phases.items()}
        for label, texts in references[scenario].items():
            _require_text(texts, f"{path}, label {label!r}")
    if not references:
        raise DataError(f"{', '.join(map(str, folders))}: no <scenario>{SUFFIX} below; name the folders with the caption files")
    return references


def read_submission(path: Path) -> Captions:
    """The captions of a submission file. Raises DataError if a record is malformed."""
    return parse_captions(files.read_json(path), str(path))


def write_submission(path: Path, predictions: Captions) -> None:
    """Write the file that the challenge's server takes: per scenario one record per phase, by label."""
    content = {
        scenario: [
            {"labels": [label], "caption_vehicle": texts.vehicle, "caption_pedestrian": texts.pedestrian}
            for label, texts in sorted(phases.items(), key=lambda item: str(item[0]))
        ]
        for scenario, phases in predictions.items()
    }
    files.write_json(path, content)


def parse_captions(content: object, place: str) -> Captions:
    """The captions in the form of a submission; of two records with one label the last. Raises DataError naming malformed ones."""
    problems = _malformed(content)
    if problems:
        more = f" (and {len(problems) - MOST_PROBLEMS_NAMED} more)" if len(problems) > MOST_PROBLEMS_NAMED else ""
        named = "; ".join(problems[:MOST_PROBLEMS_NAMED])
        raise DataError(f"{place}: {named}{more}; correct the file, the official evaluator breaks off there as well")
    return {
        scenario: {record["labels"][0]: PhaseCaptions(*(record[f"caption_{kind}"] for kind in KINDS)) for record in records}
        for scenario, records in content.items()
    }


def find_problems(content: object, scenarios: Iterable[str]) -> list[str]:
    """Everything that is wrong with a submission for these scenarios, one line each; empty if it can be handed in."""
    problems = _malformed(content)
    if not isinstance(content, dict):
        return problems
    wanted = list(scenarios)
    problems += [f"{scenario}: missing, its phases count as zero" for scenario in wanted if scenario not in content]
    problems += [f"{scenario}: not asked for, it is ignored" for scenario in content if scenario not in set(wanted)]
    for scenario, records in content.items():
        if isinstance(records, list):
            problems += [f"{scenario}, {problem}" for problem in _label_problems(records)]
    return problems


def vqa_answers(records: Sequence[dict]) -> dict[str, str | None]:
    """Letter by question from records {"id", "correct"} of the challenge's question answering; of two with one id the last."""
    return {record["id"]: record["correct"] for record in records}


def _rows(scored: Sequence[PhaseScore], name: Callable[[PhaseScore], str], order: Iterable[str]) -> tuple[Row, ...]:
    """One row per name that occurs, in this order."""
    groups: dict[str, list[PhaseScore]] = {}
    for one in scored:
        groups.setdefault(name(one), []).append(one)
    return tuple(mean_row(title, groups[title]) for title in order if title in groups)


def _scored_files(folder: Path) -> Iterator[Path]:
    """The caption files below a folder that the evaluator scores, by path. Raises DataError for JSON of another kind."""
    for path in files.list_files(folder):
        if path.suffix != ".json" or UNSCORED in str(path.relative_to(folder)):
            continue
        if not path.name.endswith(SUFFIX):
            raise DataError(f"{path}: not a caption file; the ground truth holds files <scenario>{SUFFIX} only, name their folder")
        yield path


def _digit(label: Label, path: Path) -> str:
    """The digit of a phase given by digit or name; BDD_PC_5K has names in train and val."""
    number = parse_phase(label)
    if number is None:
        raise DataError(f"{path}: label {label!r} is no phase; phases are 0 to 4 or {', '.join(PHASES)}")
    return str(number)


def _require_text(reference: PhaseCaptions, place: str) -> None:
    """Raise DataError if a caption of the ground truth is empty."""
    for kind in KINDS:
        if not getattr(reference, kind).strip():
            raise DataError(f"{place}: the caption of the {kind} is empty in the ground truth; CIDEr has no value there, fill or remove it")


def _malformed(content: object) -> list[str]:
    """The records of a submission that are no records, one line each."""
    if not isinstance(content, dict):
        return [f"expected an object of scenarios, found {type(content).__name__}"]
    problems = []
    for scenario, records in content.items():
        if not isinstance(records, list):
            problems.append(f"{scenario}: expected a list of records, found {type(records).__name__}")
            continue
        for number, record in enumerate(records, start=1):
            problems += [f"{scenario}, record {number}: {problem}" for problem in _malformed_parts(record)]
    return problems


def _malformed_parts(record: object) -> list[str]:
    """What a record lacks to be one."""
    if not isinstance(record, dict):
        return [f"expected an object, found {type(record).__name__}"]
    problems = []
    if _label(record) is None:
        problems.append(f"labels is {record.get('labels')!r}, expected a list with one digit as text")
    for key in (f"caption_{kind}" for kind in KINDS):
        if key not in record:
            problems.append(f"no {key}")
        elif not isinstance(record[key], str):
            problems.append(f"{key} is {type(record[key]).__name__}, expected text")
    return problems


def _label(record: object) -> Label | None:
    """The label that counts, the first one; None if the record has none."""
    labels = record.get("labels") if isinstance(record, dict) else None
    first = labels[0] if isinstance(labels, list) and labels else None
    return first if isinstance(first, Label) else None


def _label_problems(records: Sequence[object]) -> list[str]:
    """What is wrong with the phases of one scenario: labels unknown, double, missing or ignored, and empty captions."""
    problems = []
    found = [(label, record) for record in records if (label := _label(record)) is not None]
    labels = [label for label, _ in found]
    for label, record in found:
        if label not in LABELS:
            problems.append(f'label {label!r}: expected one of "0" to "4"')
        if len(record["labels"]) > 1:
            problems.append(f"label {label!r}: {len(record['labels'])} labels, only the first counts")
        problems += [f"label {label!r}: caption_{kind} is empty" for kind in KINDS if str(record.get(f"caption_{kind}", "?")).strip() == ""]
    problems += [f"label {label!r}: {labels.count(label)} records, only the last counts" for label in LABELS if labels.count(label) > 1]
    return problems + [f"label {label!r}: missing, the phase counts as zero" for label in LABELS if label not in labels]
