"""The scores of every benchmark as rows of metrics.json, from the published annotations and the answer files.

A row is {"benchmark", "metric", "group", "model", "value", "n"}: shares with their "unit", percent, and the binomial "standard_error";
MME in points, without either. VQAv2's test and MMBench's official numbers come from servers; what is scored here of them are proxies, VQA
accuracy on val and circular accuracy on the dev answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib.config import Quirk
from lib.metrics import gqa, multiple_choice, scienceqa, vqa, yes_no
from lib.metrics.tally import Tally
from lib.metrics.yes_no import MmeRow
from lib.submissions.dataengine import prompt_review, weights
from lib.submissions.dataengine.prompt_review import Review

Row = dict[str, Any]
Lines = Sequence[dict]  # of an answer file
References = Any  # as of benchmarks.read_references; aokvqa's with their types

LABELS = ("false", "true")  # of VSR, which numbers them
UPLOADED = ("vqav2", "vizwiz", "mm-vet")  # only a server can score them
JUDGED = ("llava-bench",)  # only a judge can: reviews are scored, where there are any
PROMPT = "prompt"  # no benchmark: the writer's replies as a person judged them, one group per version of the prompt


@dataclass(frozen=True)
class Answers:
    """One model's answers to one benchmark."""

    model: str
    lines: Lines

    @property
    def by_question(self) -> dict[Any, str]:
        """question_id -> text."""
        return {line["question_id"]: line["text"] for line in self.lines}


def score(benchmark: str, references: References, answers: Answers, *, aokvqa: Quirk) -> list[Row]:
    """The rows of one benchmark and model; none for a benchmark that only a server or a judge can score."""
    if benchmark in (*UPLOADED, *JUDGED):
        return []
    if benchmark == "aokvqa":
        return _aokvqa(references, answers, aokvqa)
    return _SCORERS[benchmark](references, answers)


def typed_results(references: Sequence[Mapping], answers: Answers) -> list[dict]:
    """A-OKVQA's questions in the published layout of results: `model_answer` is the text of the option that the answer means."""
    given = answers.by_question
    return [dict(sample) | {"model_answer": _option_of(given.get(sample["question_id"]), sample["choices"])} for sample in references]


def rotated(references: Mapping, answers: Answers) -> Answers:
    """SEED-Bench's answers, each given to the next question of its type: what knowing the type alone is worth."""
    by_type: dict[object, list[object]] = {}
    for question in references["questions"]:
        if question["data_type"] == "image":
            by_type.setdefault(question["question_type_id"], []).append(int(question["question_id"]))
    given = {int(question_id): text for question_id, text in answers.by_question.items()}
    lines = [
        {"question_id": question, "text": given.get(other, "")}
        for own in by_type.values()
        for question, other in zip(own, [*own[1:], *own[:1]], strict=True)
    ]
    return Answers("shuffled", lines)


def prompt_rows(reviews: Sequence[Mapping]) -> list[Row]:
    """The share of right replies per version of the writer's prompt, from the rows of review sheets; none before the first verdict."""
    found = prompt_review.measure(Review(**review) for review in reviews)
    return [line for version, one in found.items() for line in _tally(PROMPT, "accuracy", version, "writer", Tally(one.right, one.judged))]


def row(benchmark: str, metric: str, group: str, model: str, value: float, n: int) -> Row:
    """One row of metrics.json."""
    return {"benchmark": benchmark, "metric": metric, "group": group, "model": model, "value": value, "n": n}


def _tally(benchmark: str, metric: str, group: str, model: str, tally: Tally | None) -> list[Row]:
    """The row of a share, none where nothing was asked."""
    if tally is None or not tally.total:
        return []
    return [row(benchmark, metric, group, model, tally.percent, tally.total) | {"unit": "percent", "standard_error": tally.standard_error}]


def _seed(annotation: References, answers: Answers) -> list[Row]:
    found = multiple_choice.score_seed(annotation, answers.by_question)
    by_type = [one for name, own in found.image_by_type.items() for one in _tally("seed", "type_accuracy", name, answers.model, own)]
    return [*_tally("seed", "accuracy", "all", answers.model, found.image), *by_type]


def _mmbench(rows: References, answers: Answers) -> list[Row]:
    found = multiple_choice.score_mmbench(rows, answers.by_question)
    groups = {"all": found.circular, **found.by_category}
    return [one for group, tally in groups.items() for one in _tally("mmbench", "circular_accuracy", group, answers.model, tally)]


def mme_rows(truth: References, lines: Lines) -> dict[str, list[MmeRow]]:
    """MME's answers by category, as its official tool reads them."""
    texts = {
        (category, name): "".join(f"{question}\t{answer}\n" for question, answer in pairs)
        for category, own in truth.items()
        for name, pairs in own.items()
    }
    return yes_no.mme_rows(lines, yes_no.mme_truth(texts))


def _mme(truth: References, answers: Answers) -> list[Row]:
    found = yes_no.score_mme(mme_rows(truth, answers.lines))
    count = sum(one.questions.total for one in found.categories.values())
    rows = [row("mme", name, "all", answers.model, getattr(found, name), count) for name in ("perception", "cognition", "total")]
    rows += [row("mme", "score", name, answers.model, one.score, one.questions.total) for name, one in found.categories.items()]
    return rows


def _gqa(questions: References, answers: Answers) -> list[Row]:
    found = gqa.score_gqa(questions, answers.by_question)
    groups = {"all": found.accuracy, "open": found.open, "binary": found.binary, **found.by_structure}
    return [one for group, tally in groups.items() for one in _tally("gqa", "accuracy", group, answers.model, tally)]


def _vqav2_val(documents: References, answers: Answers) -> list[Row]:
    return _vqa_accuracy("vqav2_val", documents, answers)


def _okvqa(documents: References, answers: Answers) -> list[Row]:
    return _vqa_accuracy("okvqa", documents, answers)


def _vqa_accuracy(benchmark: str, documents: References, answers: Answers) -> list[Row]:
    known = {one["question_id"]: vqa.answer_texts(one) for one in documents["annotations"]["annotations"]}
    tally = vqa.score_answers(known, answers.by_question, vqa.vqa_accuracy)
    return _tally(benchmark, "vqa_accuracy", "all", answers.model, tally)


def _vizwiz_val(questions: References, answers: Answers) -> list[Row]:
    known = {one["image"]: vqa.answer_texts(one) for one in questions}
    tally = vqa.score_answers(known, answers.by_question, vqa.vizwiz_accuracy)
    return _tally("vizwiz_val", "accuracy", "all", answers.model, tally)


def _vsr(statements: References, answers: Answers) -> list[Row]:
    labels = {str(number): LABELS[one["label"]] for number, one in enumerate(statements, start=1)}
    given = {str(question_id): text for question_id, text in answers.by_question.items()}
    return _tally("vsr", "accuracy", "all", answers.model, vqa.score_vsr(labels, given))


def _scienceqa(documents: References, answers: Answers) -> list[Row]:
    found = scienceqa.score_scienceqa(documents["problems"], documents["splits"]["test"], answers.lines)
    return [
        *_tally("scienceqa", "accuracy", "all", answers.model, found.all),
        *_tally("scienceqa", "image_accuracy", "all", answers.model, found.image_as_published),
    ]


def _pope(labels: References, answers: Answers) -> list[Row]:
    """Answers and labels of a category pair by question_id, which is the number of the line; the original pairs them by order."""
    rows, scores = [], []
    for category, known in labels.items():
        own = {line["question_id"]: line["text"] for line in answers.lines if line.get("category", category) == category}
        found = yes_no.score_pope([one["label"] for one in known], [own.get(one["question_id"], "") for one in known])
        scores.append(found.f1)
        rows.append(row("pope", "f1", category, answers.model, 100 * found.f1, found.total))
        rows.append(row("pope", "accuracy", category, answers.model, 100 * found.accuracy, found.total))
    mean = row("pope", "f1", "all", answers.model, 100 * sum(scores) / len(scores), len(answers.lines))
    return [one | {"unit": "percent"} for one in (mean, *rows)]


def _textvqa(document: References, answers: Answers) -> list[Row]:
    return _tally("textvqa", "accuracy", "all", answers.model, vqa.score_textvqa(document["data"], answers.lines))


def _aokvqa(samples: References, answers: Answers, comparison: Quirk) -> list[Row]:
    known = {sample["question_id"]: sample for sample in samples}
    results = typed_results(samples, answers)
    given = {one["question_id"]: one["model_answer"] for one in results if one["model_answer"] is not None}
    rows = [
        *_tally(
            "aokvqa", "choice_accuracy", "all", answers.model, multiple_choice.score_aokvqa_choice(known, given, comparison=comparison)
        ),
        *_tally(
            "aokvqa", "direct_accuracy", "all", answers.model, multiple_choice.score_aokvqa_direct(known, given, comparison=comparison)
        ),
    ]
    for name, tally in weights.count_errors(results).items():
        share = Tally(tally.wrong, tally.questions)
        rows += _tally("aokvqa", "error", name, answers.model, share)
    return rows


def _option_of(text: str | None, choices: Sequence[str]) -> str | None:
    """The text of the option that an answer means: by its letter, by its words; None where it means none."""
    if text is None:
        return None
    options = dict(zip(multiple_choice.LETTERS, choices, strict=False))
    letter = multiple_choice.infer_letter(text, options)
    return options.get(letter) if letter is not None else None


_SCORERS: dict[str, Callable[[References, Answers], list[Row]]] = {
    "seed": _seed,
    "mmbench": _mmbench,
    "mme": _mme,
    "gqa": _gqa,
    "vqav2_val": _vqav2_val,
    "scienceqa": _scienceqa,
    "pope": _pope,
    "textvqa": _textvqa,
    "okvqa": _okvqa,
    "vizwiz_val": _vizwiz_val,
    "vsr": _vsr,
}
