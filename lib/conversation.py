"""Conversations as text, as token ids and as labels: a chat template is data, and what is trained follows from character offsets.

One `<image>` in the text stands for all pictures of a conversation. The text is cut there and its parts are tokenized one by one,
as LLaVA does, so that ids equal the published ones; the tokenizer has to be a fast one and to name its `image_token_id`. The
original finds the answers by counting tokens of parts tokenized again, and loses a sample when the counts disagree; offsets cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lib.config import Quirk
from lib.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Role = Literal["user", "assistant"]
Span = tuple[int, int]  # characters, end exclusive

IMAGE = "<image>"
IGNORED = -100  # what torch's cross-entropy leaves out
SPEAKERS: dict[str, Role] = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Turn:
    """What one side says."""

    role: Role
    text: str


@dataclass(frozen=True)
class Sample:
    """A conversation and its pictures (paths below the media root), in the order in which the model gets them."""

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """What surrounds the turns: the system part, and opening and closing of a turn of each role; an answer's closing is trained.

    `gap` stands between an opening and the answer and is trained with it, since tokenizers make one token of a blank and the word
    behind it. `start` is the token that some tokenizers put in front of a raw answer.
    """

    name: str
    system: str
    user: tuple[str, str]
    assistant: tuple[str, str]
    gap: str = ""
    start: str = ""


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation, and the spans of its answers, each with its closing."""

    text: str
    answers: tuple[Span, ...]


@dataclass(frozen=True)
class Encoded:
    """Token ids with the pictures' places, and as many labels: the id where it is trained, else -100."""

    input_ids: list[int]
    labels: list[int]

    @property
    def supervised(self) -> int:
        """How many tokens are trained."""
        return sum(label != IGNORED for label in self.labels)


# LLaVA-1.6-34B; there is no line end after <|im_end|>, unlike in ChatML proper (cityllava specification, section 8).
CHATML_DIRECT = Template(
    name="chatml_direct",
    system="<|im_start|>system\nAnswer the questions.<|im_end|>",
    user=("<|im_start|>user\n", "<|im_end|>"),
    assistant=("<|im_start|>assistant\n", "<|im_end|>"),
    start="<|startoftext|>",
)
# LLaVA-1.5, also called v1; an open prompt ends without a blank (dataengine specification, section 5).
VICUNA_V1 = Template(
    name="vicuna_v1",
    system="A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. ",
    user=("USER: ", " "),
    assistant=("ASSISTANT:", "</s>"),
    gap=" ",
)
# For the training of a projector alone: the picture, a caption, and a line end.
PLAIN = Template(name="plain", system="", user=("", ""), assistant=("", "\n"))
TEMPLATES = {template.name: template for template in (CHATML_DIRECT, VICUNA_V1, PLAIN)}


def read_turns(conversations: Sequence[dict], *, where: str) -> tuple[Turn, ...]:
    """The turns of a LLaVA record's list of {"from": "human" or "gpt", "value": text}; one of "gpt" at the start is left out, as published.

    Raises DataError, naming `where`, for another speaker or form.
    """
    turns = []
    for number, entry in enumerate(conversations, start=1):
        if entry.get("from") not in SPEAKERS or not isinstance(entry.get("value"), str):
            raise DataError(f'{where}: turn {number} is {str(entry)[:60]}; expected {{"from": "human" or "gpt", "value": text}}')
        turns.append(Turn(SPEAKERS[entry["from"]], entry["value"]))
    return tuple(turns[1:] if turns and turns[0].role == "assistant" else turns)


def render(turns: Sequence[Turn], template: Template) -> Rendered:
    """A conversation to train on. An empty last answer leaves the text open where it would begin.

    Raises DataError if questions and answers do not alternate, and for an answer that holds its own closing or a picture: the first
    would teach to stop early (the original drops the sample), the second has no picture to show.
    """
    for number, turn in enumerate(turns, start=1):
        if turn.role == "assistant":
            _check_answer(turn.text, number, template, is_last=number == len(turns))
    return _compose(turns, template)


def prompt(turns: Sequence[Turn], template: Template) -> Rendered:
    """The text up to where the next answer begins, earlier answers included as they are. Raises DataError unless a question is last."""
    if not turns or turns[-1].role != "user":
        raise DataError(f"a prompt of {len(turns)} turn(s) does not end with a question; the last turn must be of the user")
    return replace(_compose([*turns, Turn("assistant", "")], template), answers=())


def dialogue(questions: Sequence[str], answers: Sequence[str], *, pictured: bool = True) -> tuple[Turn, ...]:
    """The turns up to the question after the last answer, with the pictures, if there are any, in the first question."""
    turns = [Turn("user", f"{IMAGE}\n{questions[0]}" if pictured else questions[0])]
    for answer, question in zip(answers, questions[1 : len(answers) + 1], strict=True):
        turns += [Turn("assistant", answer), Turn("user", question)]
    return tuple(turns)


def next_turns(
    questions: Sequence[str], raw_answers: Sequence[str], template: Template, *, history: Quirk, pictured: bool = True
) -> tuple[Turn, ...]:
    """The conversation up to the question after the answers so far.

    `history` as_published keeps an answer as the model gave it, so that its end marker stands twice.
    """
    answers = [raw.strip() if history == "as_published" else clean(raw, template).strip() for raw in raw_answers]
    return dialogue(questions, answers, pictured=pictured)


def clean(raw: str, template: Template) -> str:
    """A raw answer without the blanks around it and its markers; a line end before a marker stays.

    The start token leaves a blank behind it or not, depending on the tokenizer's version.
    """
    text = raw.strip().replace(template.assistant[1], "")
    return text.replace(f"{template.start} ", "").replace(template.start, "") if template.start else text


def move_image_first(text: str) -> str:
    """The text with `<image>` and a line end in front instead of where it stands; several become one. Other text is untouched."""
    if IMAGE not in text:
        return text
    return f"{IMAGE}\n{text.replace(IMAGE, '').strip()}".strip()


def encode(rendered: Rendered, tokenizer: "PreTrainedTokenizerFast", image_tokens: int, max_length: int) -> Encoded:
    """Ids and labels; `<image>` becomes `image_tokens` image ids, then what is beyond `max_length` is cut from the right.

    A token is trained if any character of it belongs to an answer. Raises DataError if the text does not have exactly one `<image>`
    (none for 0 image tokens), if the cut goes into the pictures, and if anything of a prompt would be cut.
    """
    parts = rendered.text.split(IMAGE)
    if len(parts) - 1 != (image_tokens > 0):
        raise DataError(
            f"{len(parts) - 1} times {IMAGE} in the conversation with {image_tokens} image tokens; it stands once for all pictures"
        )
    ids, labels, start = [], [], 0
    for number, part in enumerate(parts):
        image_ids = [tokenizer.image_token_id] * (image_tokens if number else 0)
        tokens = tokenizer(part, add_special_tokens=number == 0, return_offsets_mapping=True, verbose=False)
        trained = [_is_within((start + a, start + b), rendered.answers) for a, b in tokens["offset_mapping"]]
        ids += image_ids + tokens["input_ids"]
        labels += [IGNORED] * len(image_ids)
        labels += [token if keep else IGNORED for token, keep in zip(tokens["input_ids"], trained, strict=True)]
        last_picture = len(ids) - len(tokens["input_ids"])
        start += len(part) + len(IMAGE)
    needed = last_picture if rendered.answers else len(ids)
    if needed > max_length:
        what = "the pictures and what precedes them need" if rendered.answers else "the prompt needs"
        raise DataError(f"{what} {needed} tokens, {max_length} are allowed; raise the maximum length")
    return Encoded(ids[:max_length], labels[:max_length])


def _check_answer(text: str, number: int, template: Template, *, is_last: bool) -> None:
    if not text and not is_last:
        raise DataError(f"turn {number} is an empty answer; only the last one may be left open")
    for mark in (template.assistant[1], IMAGE):
        if mark in text:
            raise DataError(f"turn {number}, an answer, contains {mark!r}; take it out of the text or leave the sample out")


def _compose(turns: Sequence[Turn], template: Template) -> Rendered:
    text, answers = template.system, []
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise DataError(f"turn {number + 1} is of the {turn.role}, expected the {expected}; questions and answers must alternate")
        opening, closing = template.user if turn.role == "user" else template.assistant
        text += opening
        if turn.role == "user":
            text += move_image_first(turn.text) + closing
        elif turn.text:
            answer = template.gap + turn.text + closing
            answers.append((len(text), len(text) + len(answer)))
            text += answer
    return Rendered(text, tuple(answers))


def _is_within(token: Span, answers: tuple[Span, ...]) -> bool:
    return any(token[0] < end and token[1] > begin for begin, end in answers)
