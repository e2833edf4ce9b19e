"""Answers chosen among given ones: that whose tokens, its end included, the model finds likeliest on average.

So the first MLLM-DataEngine evaluated (dataengine specification, section 2.1); a model that does not manage letters can be asked too.
B questions, R answers of all of them together, A tokens of the longest, V views of a question's pictures, S their side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lib import conversation, reading
from lib.conversation import IGNORED, Template, Turn
from lib.errors import DataError
from lib.llava import Llava


@dataclass(frozen=True)
class Choice:
    """A question without its picture mark, the answers to choose from, and what is seen, (V, 3, S, S), V 0 without pictures."""

    question: str
    answers: tuple[str, ...]
    views: Tensor


@dataclass(frozen=True)
class _Known:
    """The ids of a question, and of each of its answers."""

    prompt: list[int]
    answers: list[list[int]]


def choose(bundle: Llava, questions: Sequence[Choice], template: Template) -> list[str]:
    """The likeliest answer to each question; of two that are equally likely the first. Raises DataError where there is none to choose."""
    bare = [one.question for one in questions if not one.answers]
    if bare:
        raise DataError(f"no answer to choose from for {bare[0][:60]!r}; give the answers of every question, or of none")
    known = [_encode(bundle, one, template) for one in questions]
    losses = _mean_losses(bundle, known, [one.views for one in questions])
    found = losses.split([len(one.answers) for one in questions])
    return [one.answers[int(own.argmin())] for one, own in zip(questions, found, strict=True)]


@torch.inference_mode()
def _mean_losses(bundle: Llava, known: Sequence[_Known], views: Sequence[Tensor]) -> Tensor:
    """The mean loss (nats) per token of each answer, (R,). A question is read once, whatever the number of its answers."""
    model, device = bundle.model, bundle.model.device
    prompts = reading.prepare(bundle, [one.prompt for one in known], views)
    before = prompts.attention_mask
    read = model.model(prompts.input_ids, attention_mask=before, position_ids=prompts.places, **prompts.seen, use_cache=True)
    owner = torch.tensor([place for place, one in enumerate(known) for _ in one.answers], device=device)  # (R,)
    answers, labels = _pad_right([answer for one in known for answer in one.answers], bundle.tokenizer.pad_token_id)
    answers, labels = answers.to(device), labels.to(device)
    read.past_key_values.batch_select_indices(owner)
    mask = torch.cat([before[owner], torch.ones_like(answers[:, :-1])], dim=1)
    places = before.sum(dim=1)[owner, None] + torch.arange(answers.shape[1] - 1, device=device)
    states = read.last_hidden_state[owner, -1:]  # (R, 1, width)
    if answers.shape[1] > 1:
        further = model.model(
            input_ids=answers[:, :-1], attention_mask=mask, position_ids=places, past_key_values=read.past_key_values, use_cache=True
        )
        states = torch.cat([states, further.last_hidden_state], dim=1)  # (R, A, width)
    losses = functional.cross_entropy(model.lm_head(states).float().transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
    return losses.sum(dim=1) / (labels != IGNORED).sum(dim=1)


def _pad_right(rows: Sequence[list[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Ids and labels, (R, A) both."""
    length = max(map(len, rows))
    ids = torch.tensor([row + [pad_token_id] * (length - len(row)) for row in rows])
    return ids, torch.tensor([row + [IGNORED] * (length - len(row)) for row in rows])


def _encode(bundle: Llava, one: Choice, template: Template) -> _Known:
    """The ids, cut where the answer begins: question and answer are tokenized together, as in training."""
    asked = conversation.dialogue([one.question], [], pictured=len(one.views) > 0)
    limit, places = bundle.model.config.text_config.max_position_embeddings, len(one.views) * bundle.image_tokens
    answers = []
    for answer in one.answers:
        rendered = conversation.render([*asked, Turn("assistant", answer)], template)
        encoded = conversation.encode(rendered, bundle.tokenizer, places, limit)
        start = len(encoded.input_ids) - encoded.supervised
        answers.append(encoded.input_ids[start:])
    return _Known(encoded.input_ids[:start], answers)
