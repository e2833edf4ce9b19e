"""Writers of the engine: the requests to a language model, and an offline stand-in that writes questions about toy pictures.

The stand-in sees the rendered prompt and nothing else, like the model in whose place it stands, and makes the mistakes that such
models make in a small share of its replies, so that each reason for which `replies` drops one occurs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from lib.services import Outcome, Request
from lib.submissions.dataengine import facts, question_types
from lib.submissions.dataengine.facts import Fact
from lib.submissions.dataengine.queries import BOXES, CAPTIONS, TYPE
from lib.submissions.dataengine.wording import LETTERS

# As published; 50256 ended a text for older models, and one reply (n = 1) is what the kit asks for anyway.
PARAMETERS: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "max_tokens": 800,
    "stop": ["###"],
    "logit_bias": {"50256": -100},
}

OPTIONS = 4
MISTAKE_SHARE = 0.1
SKIP = "Skip. Nothing known of this picture fits the type that is asked for."
MENTION = re.compile(r"\bthe (pedestrian|person|vehicle)\b", re.IGNORECASE)
CATEGORY = {"pedestrian": "person", "person": "person", "vehicle": "vehicle"}  # of the toy boxes


@dataclass(frozen=True)
class Draft:
    """A reply before it is put into its form; `right` is the number of the right option, from 0."""

    question: str
    options: tuple[str, ...]
    right: int
    explanation: str


def build_requests(queries: Sequence[Mapping[str, Any]], *, model: str, parameters: Mapping[str, Any]) -> list[Request]:
    """One request per query, its prompt the only message."""
    return [Request(model, [{"role": "user", "content": query["prompt"]}], parameters) for query in queries]


def add_replies(queries: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The published records of replies: image_id, raw_instructions (null where the request failed), question_type."""
    return [
        {"image_id": query["image_id"], "raw_instructions": outcome.text, "question_type": query["question_type"]}
        for query, outcome in zip(queries, outcomes, strict=True)
    ]


def stand_in(request: Request) -> str:
    """What the offline stand-in writes: a question about a fact that the captions state, `Skip` if none is of the type asked for.

    The same prompt gives the same reply.
    """
    prompt = request.messages[-1]["content"]
    rng = np.random.default_rng(int.from_bytes(sha256(prompt.encode()).digest()[:8]))
    stated = _stated(_slot(prompt, CAPTIONS))
    known = [fact for fact in question_types.facts_of(_slot(prompt, TYPE)) if fact.attribute in stated]
    if not known:
        return SKIP
    fact = known[rng.integers(len(known))]
    draft = _draft(fact, stated[fact.attribute], _slot(prompt, BOXES), rng)
    if rng.random() < MISTAKE_SHARE:
        return _MISTAKES[rng.integers(len(_MISTAKES))](draft)
    return form(draft)


def form(draft: Draft) -> str:
    """The reply in the form that the prompt asks for."""
    lettered = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, draft.options, strict=False))
    answer = f"The answer is ({LETTERS[draft.right]}): {draft.options[draft.right]}."
    return f"Question: {draft.question}\nChoices: {lettered}\nAnswer: {answer}\nExplanations: {draft.explanation}"


def _draft(fact: Fact, value: str, boxes: str, rng: np.random.Generator) -> Draft:
    """A question about the fact; other values of the same attribute are the wrong options."""
    others = rng.permutation([other for other in fact.values if other != value])[: OPTIONS - 1]
    options = tuple(str(option) for option in rng.permutation([value, *others]))
    question = fact.questions[rng.integers(len(fact.questions))]
    question = _add_box(question, boxes) if rng.random() < 0.5 else question
    return Draft(question, options, options.index(value), _add_box(fact.statement.format(value), boxes))


def _slot(prompt: str, tag: str) -> str:
    """What stands between the last pair of these tags, empty if there is none."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", prompt, re.DOTALL)
    return found[-1].strip() if found else ""


def _stated(captions: str) -> dict[str, str]:
    """Attribute -> value for every sentence that states one."""
    return dict(filter(None, (facts.read_statement(sentence) for sentence in re.findall(r"[^.\n]+\.", captions))))


def _add_box(text: str, boxes: str) -> str:
    """The text with the box of the first object that it mentions behind the mention, if there is one."""
    mention = MENTION.search(text)
    box = re.search(rf"^{CATEGORY[mention[1].lower()]} : (\[.*\])$", boxes, re.MULTILINE) if mention else None
    return f"{text[: mention.end()]} {box[1]}{text[mention.end() :]}" if mention and box else text


def _explain(draft: Draft, sentence: str) -> str:
    """The reply with one sentence more in its explanation."""
    return form(replace(draft, explanation=f"{draft.explanation} {sentence}"))


def _without_an_option(draft: Draft) -> str:
    """The reply without one of the wrong options."""
    options = tuple(option for number, option in enumerate(draft.options) if number != (draft.right + 1) % len(draft.options))
    return form(replace(draft, options=options, right=options.index(draft.options[draft.right])))


_MISTAKES: tuple[Callable[[Draft], str], ...] = (
    lambda draft: _explain(draft, "The bounding box shows it as well."),
    lambda draft: _explain(draft, "It is located at [0.1, 0.2, 0.3, 0.4]."),
    lambda draft: _explain(draft, "This is so according to the description."),
    lambda draft: "Skip. I am not certain enough of what this picture shows.",
    lambda draft: form(draft).removeprefix("Question: "),
    lambda draft: re.sub(r"Choices: .*\n", "", form(draft)),
    lambda draft: re.sub(r"The answer is .*?: ", "", form(draft)),
    lambda draft: re.sub(r"The answer is \(.\)", "The answer is (F)", form(draft)),
    _without_an_option,
)
