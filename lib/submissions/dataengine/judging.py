"""LLaVA-Bench: a language model compares the reference's answer with the model's; requests, an offline stand-in, reviews, summary.

As published the judge sees the question, a description of the picture and both answers, and gives two scores from 1 to 10 on the first
line (specs/dataengine.md section 7.7). The file of its rules is missing from the repository; they are in the kit's own words.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lib.metrics import judged
from lib.metrics.judged import JudgedSummary
from lib.services import Outcome, Request

PARAMETERS: dict[str, Any] = {"temperature": 0.2, "max_tokens": 1024}  # [code]
SYSTEM = "You are a careful and impartial judge of answers about pictures."
REFERENCE, MODEL = "Answer of assistant 1", "Answer of assistant 2"
RULES = (
    "Judge both answers by how helpful, relevant, accurate and detailed they are, the picture being as described. Write on the first line "
    "two scores from 1 to 10 and nothing else, that of assistant 1 first, with one blank between. Then explain them. Neither the order of "
    "the answers nor their length counts."
)
HIGHEST = 10


def build_requests(references: Mapping[str, Sequence[Mapping]], lines: Sequence[Mapping], *, model: str) -> list[Request]:
    """One request per question of `references` (as of benchmarks.read_references) that `lines` answer, in their order."""
    context = {one["image"]: one["caption"] for one in references["context"]}
    reference = {one["question_id"]: one["text"] for one in references["answers_gpt4"]}
    asked = {one["question_id"]: one for one in references["questions"]}
    requests = []
    for line in lines:
        question = asked[line["question_id"]]
        described = context[question["image"]]
        parts = {
            "Picture": described if isinstance(described, str) else "\n".join(described),
            "Question": question["text"],
            REFERENCE: reference[line["question_id"]],
            MODEL: line["text"],
        }
        text = "\n\n".join([*(f"[{name}]\n{part}" for name, part in parts.items()), RULES])
        requests.append(Request(model, [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}], PARAMETERS))
    return requests


def read_reviews(references: Mapping[str, Sequence[Mapping]], lines: Sequence[Mapping], outcomes: Sequence[Outcome]) -> list[dict]:
    """The published rows of reviews: question_id, category, content, tuple of both scores, -1 where they cannot be read."""
    categories = {one["question_id"]: one["category"] for one in references["questions"]}
    return [
        {
            "question_id": line["question_id"],
            "category": f"llava_bench_{categories[line['question_id']]}",
            "content": outcome.text or "",
            "tuple": list(judged.review_scores(outcome.text or "")),
        }
        for line, outcome in zip(lines, outcomes, strict=True)
    ]


def summary_rows(summaries: Mapping[str, JudgedSummary]) -> list[dict]:
    """One row per category: the published three numbers, the model's share of the reference's score first."""
    names = ("model / reference, percent", "reference x 10", "model x 10")
    return [{"category": name, **dict(zip(names, summary.row, strict=True))} for name, summary in summaries.items()]


def stand_in(request: Request) -> str:
    """What the offline stand-in answers: ten for the reference, and as much of ten for the model as it has of the reference's words."""
    text = request.messages[-1]["content"]
    reference, model = (set(re.findall(r"\w+", _part(text, name).lower())) for name in (REFERENCE, MODEL))
    share = len(reference & model) / len(reference) if reference else 0.0
    return f"{HIGHEST} {max(1, round(HIGHEST * share))}\nThe second answer has {share:.0%} of the first one's words."


def _part(text: str, name: str) -> str:
    """What stands below a heading."""
    return text.partition(f"[{name}]\n")[2].partition("\n\n")[0]
