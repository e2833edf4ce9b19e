"""06 of cityllava: the official score on val, its controls, and the challenge's file (specs/cityllava.md section 10).

The test captions are not public. Of toy data it is known what every picture shows, so that single clauses can be held against it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lib import files, records, wordnet
from lib.config import StageSettings
from lib.errors import DataError, MissingInput
from lib.metrics.captions import CaptionScore, Synonyms
from lib.runs import Run
from lib.submissions.cityllava import annotations, data_prep, infer, official
from lib.submissions.cityllava.annotations import PHASES
from lib.submissions.cityllava.infer import BENCHMARKS, Prediction
from lib.submissions.cityllava.official import CORPORA, KINDS, Captions, PhaseCaptions, PhaseScore

READS = ("data", "data_prep", "infer")
SETTINGS = ("infer",)

MODELS = ("finetuned", "base")
METRICS, REFERENCES, SUBMISSION = "metrics.json", "references.jsonl", "submission.json"
ANSWERS = "toy_answers.json"
METEOR_TITLES = {"wordnet": "METEOR (WordNet 3.0)", "none": "METEOR (no synonyms)"}


@dataclass(frozen=True)
class Reference:
    """The captions of one phase of val; `values` is what the toy data show, empty for published data."""

    scenario: str
    label: str
    pedestrian: str
    vehicle: str
    values: Mapping[str, str] = field(default_factory=dict)


def read_references(cfg: StageSettings, run: Run) -> list[Reference]:
    """The val captions that the official evaluator counts and, for toy data, what the pictures show.

    An empty caption, at which the evaluator stops, is left out with its phase and counted. Raises DataError if no phase is left.
    """
    answers = files.read_json(run.data / ANSWERS)["val"] if (run.data / ANSWERS).is_file() else {}
    clips, _ = annotations.read_split(run.data, "val")  # 01 has told what is odd in them
    told = {(clip.scenario, str(one.number)): one for clip in clips if clip.captioned and clip.view != "vehicle" for one in clip.phases}
    scored = {place: one for place, one in told.items() if one.pedestrian and one.vehicle}
    if not scored:
        raise DataError(f"{run.data}: no val phase has both captions, so nothing can be scored; see the report of 01-data-prep")
    if len(scored) < len(told):
        run.drop("val phase with an empty caption, not scored", len(told) - len(scored))
    return [
        Reference(scenario, label, one.pedestrian, one.vehicle, answers.get(scenario, {}).get(label, {}))
        for (scenario, label), one in scored.items()
    ]


def count_references(references: Sequence[Reference]) -> list[dict]:
    """Per data set: scenarios, phases, words per caption."""
    rows = []
    for corpus in CORPORA:
        own = [one for one in references if official.corpus_of(one.scenario) == corpus]
        words = [len(getattr(one, kind).split()) for one in own for kind in KINDS]
        mean = sum(words) / len(words) if words else None
        rows.append({"data set": corpus, "scenarios": len({one.scenario for one in own}), "phases": len(own), "words (mean)": mean})
    return rows


def show_reference(references: Sequence[Reference]) -> dict:
    """The reference with the longest pedestrian caption."""
    return asdict(max(references, key=lambda one: len(one.pedestrian)))


def main_scores(scores: Sequence[dict]) -> list[dict]:
    """The official score over everything, and the four metrics it is the mean of."""
    return [row for row in scores if row["group"] == "all" and row["benchmark"] == "val" and row["model"] != "chance"]


def group_scores(scores: Sequence[dict]) -> list[dict]:
    """The trained model's score by data set, kind of caption and phase, and its clauses by attribute."""
    return [row for row in scores if row["benchmark"] == "val" and row["group"] != "all" and row["model"] in ("finetuned", "chance")]


def read_predictions(run: Run) -> dict[str, list[Prediction]]:
    """Model -> its predictions on both benchmarks, as 05 wrote them."""
    return _read_predictions(run.of("infer"))


def score(predictions: dict[str, list[Prediction]], references: Sequence[Reference], cfg: StageSettings) -> list[dict]:
    """The official score of each model and of the control, by group; and, where it is known what is shown, the clauses that are right.

    Rows are {"benchmark", "metric", "group", "model", "value", "n"}. "shuffled" pairs the trained model's captions with those of the
    next scenario of the same data set: what the template alone is worth. "chance" is a guess among an attribute's values.
    """
    synonyms = open_synonyms(cfg.evaluate.synonyms)
    known = _as_captions(references)
    said = {model: infer.as_captions(one for one in found if one.benchmark == "val") for model, found in predictions.items()}
    said["shuffled"] = rotate(said["finetuned"], known)
    rows = []
    for model, found in said.items():
        rows += _official_rows(model, official.score_phases(known, found, synonyms), cfg)
        rows += clause_rows(model, found, references)
    itself = _overall(official.score_phases(known, known, synonyms)).score
    rows.append(_row("identical captions", "all", "finetuned", itself, len(references)) | {"benchmark": "evaluator"})
    return [*rows, *_chance_rows(references)]


def rotate(said: Captions, known: Captions) -> Captions:
    """The captions of every scenario under the name of the one before it in the same data set: the right template, the wrong scene."""
    found: Captions = {}
    for corpus in CORPORA:
        names = [name for name in known if official.corpus_of(name) == corpus]
        if len(names) == 1:
            raise DataError(f"val has one scenario of the {corpus} data set; the control of the wrong scene needs two")
        for name, other in zip(names, [*names[1:], *names[:1]], strict=True):
            found[name] = said.get(other, {})
    return found


def measure_scores(run: Run) -> list[dict]:
    """The validation measures that 05 took, as rows like those of `score`."""
    return _measure_rows(files.read_json(run.of("infer") / infer.MEASURES))


def data_scores(run: Run) -> list[dict]:
    """What claims about the data are answered by: scenarios and clips per split."""
    report = files.read_json(run.of("data_prep") / data_prep.REPORT)
    return [
        {"benchmark": "data", "metric": name, "group": split, "model": "finetuned", "value": float(count), "n": max(1, count)}
        for split, counts in report["counts"].items()
        for name, count in counts.items()
    ]


def write_scores(scores: list[dict], references: Sequence[Reference], run: Run) -> list[str]:
    """Write metrics.json and the references, so that the scores can be computed again from what a run keeps."""
    files.write_json(run.out / METRICS, {"scores": scores})
    files.write_jsonl(run.out / REFERENCES, (asdict(one) for one in references))
    return [METRICS, REFERENCES]


def write_submission(predictions: dict[str, list[Prediction]], cfg: StageSettings, run: Run) -> list[dict]:
    """Write the challenge's file and validate it; returns what the server would object to (nothing)."""
    test = [one for one in predictions["finetuned"] if one.benchmark == "test"]
    official.write_submission(run.out / SUBMISSION, infer.as_captions(test))
    scenarios = list(dict.fromkeys(one.scenario for one in test))
    return [{"problem": text} for text in official.find_problems(files.read_json(run.out / SUBMISSION), scenarios)]


def rescore(folder: Path, cfg: StageSettings) -> list[dict]:
    """The scores computed again from the predictions and references in a run folder: what `verify` compares with metrics.json."""
    references = records.read_rows(folder / "06-evaluate" / REFERENCES, Reference)
    measures = _measure_rows(files.read_json(folder / "05-infer" / infer.MEASURES))
    return score(_read_predictions(folder / "05-infer"), references, cfg) + measures


def open_synonyms(choice: str) -> Synonyms | None:
    """The look-up of synonyms that the settings ask for. Raises MissingInput where WordNet is asked for and not there."""
    if choice == "none":
        return None
    found = wordnet.find()
    if found is None:
        raise MissingInput(
            "evaluate.synonyms is wordnet, and WordNet is not on this machine; install Debian's package wordnet-base or set WORDNET to "
            "its folder, or choose evaluate.synonyms=none, which every table then says"
        )
    return found.synonyms


def clause_rows(model: str, said: Captions, references: Sequence[Reference]) -> list[dict]:
    """Per attribute the share of captions that name its right value, over the captions that should name it; none for published data."""
    from lib.submissions.cityllava import captions

    right: dict[str, list[bool]] = {}
    for one in references:
        found = said.get(one.scenario, {}).get(one.label)
        for kind in KINDS if one.values else ():
            named = captions.clauses(getattr(found, kind)) if found else {}
            for attribute in captions.NAMED[kind]:
                right.setdefault(attribute, []).append(named.get(attribute) == one.values[attribute])
    return [_row("clause accuracy", name, model, sum(hits) / len(hits), len(hits)) for name, hits in right.items()]


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """The official tables by data set, phase and scenario, and the best and worst captions beside their references."""
    from lib import show

    references = records.read_rows(run.out / REFERENCES, Reference)
    known = _as_captions(references)
    said = infer.as_captions(one for one in read_predictions(run)["finetuned"] if one.benchmark == "val")
    result = official.score(known, said, open_synonyms(cfg.evaluate.synonyms))
    ranked = sorted(result.every, key=lambda one: one.pedestrian.score)
    shown = [_beside(one, known, said) for one in (ranked[0], ranked[len(ranked) // 2], ranked[-1])]
    return [
        ("The official score by data set:", show.table(result.table(result.corpora))),
        (f"By phase (0 {PHASES[0]} to 4 {PHASES[-1]}):", show.table(result.table(result.phases))),
        ("By scenario:", show.table(result.table(result.scenarios))),
        ("The pedestrian captions with the lowest, the middle and the highest score:", show.table(shown)),
    ]


def _read_predictions(folder: Path) -> dict[str, list[Prediction]]:
    return {model: [one for name in BENCHMARKS for one in infer.read_predictions(folder / f"{name}-{model}.jsonl")] for model in MODELS}


def _official_rows(model: str, scored: Sequence[PhaseScore], cfg: StageSettings) -> list[dict]:
    """The score and its four metrics over all; the score by data set, kind and phase."""
    both = _overall(scored)
    rows = [_row("score", "all", model, both.score, len(scored))]
    rows += [_row(name, "all", model, value, len(scored)) for name, value in _metrics(both, cfg).items()]
    groups = _by_corpus(scored)
    groups |= {f"phase {label}": [one for one in scored if one.label == label] for label in sorted({one.label for one in scored})}
    rows += [_row("score", name, model, official.mean_row(name, own).score, len(own)) for name, own in groups.items()]
    whole = official.mean_row("all", scored)
    return [*rows, *(_row("score", kind, model, getattr(whole, kind).score, len(scored)) for kind in KINDS)]


def _overall(scored: Sequence[PhaseScore]) -> CaptionScore:
    """The mean of the two data sets, each however large, or the one there is."""
    return official.captions.mean([official.mean_row(name, own).both for name, own in _by_corpus(scored).items()])


def _by_corpus(scored: Sequence[PhaseScore]) -> dict[str, list[PhaseScore]]:
    found = {name: [one for one in scored if official.corpus_of(one.scenario) == name] for name in CORPORA}
    return {name: own for name, own in found.items() if own}


def _as_captions(references: Sequence[Reference]) -> Captions:
    known: Captions = {}
    for one in references:
        known.setdefault(one.scenario, {})[one.label] = PhaseCaptions(one.pedestrian, one.vehicle)
    return known


def _metrics(score: CaptionScore, cfg: StageSettings) -> dict[str, float]:
    return {"BLEU-4": score.bleu, METEOR_TITLES[cfg.evaluate.synonyms]: score.meteor, "ROUGE-L": score.rouge_l, "CIDEr": score.cider}


def _chance_rows(references: Sequence[Reference]) -> list[dict]:
    from lib.submissions.cityllava import captions

    if not any(one.values for one in references):
        return []
    return [_row("clause accuracy", name, "chance", value, len(references)) for name, value in captions.CHANCE.items()]


def _measure_rows(measures: Mapping[str, Mapping[str, float]]) -> list[dict]:
    return [
        _row(f"caption {metric}", "all", model, value, int(values["tokens"]))
        for model, values in measures.items()
        for metric, value in values.items()
        if metric != "tokens"
    ]


def _row(metric: str, group: str, model: str, value: float, n: int) -> dict:
    return {"benchmark": "val", "metric": metric, "group": group, "model": model, "value": value, "n": n}


def _beside(scored: PhaseScore, known: Captions, said: Captions) -> dict:
    found = said.get(scored.scenario, {}).get(scored.label)
    return {
        "scenario": scored.scenario,
        "phase": PHASES[int(scored.label)],
        "score": scored.pedestrian.score,
        "said": found.pedestrian if found else "",
        "reference": known[scored.scenario][scored.label].pedestrian,
    }
