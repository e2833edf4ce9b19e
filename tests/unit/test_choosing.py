"""Answers chosen among given ones: the likeliest by its mean loss, with or without pictures, alone or in a batch."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from lib import choosing, conversation, llava, snapshot_texts
from lib.choosing import Choice, choose
from lib.conversation import CHATML_DIRECT, IGNORED, VICUNA_V1, Turn
from lib.errors import DataError
from lib.generation import Conversation, How, answer_batch
from lib.llava import Llava
from tests.unit.test_snapshots import RECIPE

WORDS = ("clear", "cloudy", "main road", "parking lot")
BARE = torch.empty(0, 3, 32, 32)


@pytest.fixture(scope="module")
def bundle() -> Llava:
    tokenizer = snapshot_texts.build_tokenizer(768)
    return Llava(llava.build(RECIPE.architecture, tokenizer.image_token_id, seed=3).eval(), tokenizer)


def mean_loss(bundle: Llava, question: str, answer: str, views: torch.Tensor) -> float:
    """The definition, one answer at a time through the model's own head."""
    turns = [*conversation.dialogue([question], [], pictured=len(views) > 0), Turn("assistant", answer)]
    encoded = conversation.encode(conversation.render(turns, VICUNA_V1), bundle.tokenizer, len(views) * bundle.image_tokens, 10**6)
    labels = torch.tensor(encoded.labels)[1:]
    with torch.inference_mode():
        logits = bundle.model(input_ids=torch.tensor([encoded.input_ids]), pixel_values=views if len(views) else None).logits[0, :-1]
    return functional.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED]).item()


@pytest.mark.parametrize("pictured", [True, False])
def test_the_answer_with_the_lowest_mean_loss_is_chosen(bundle: Llava, pictured: bool):
    asked = []
    for seed in range(6):
        views = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) if pictured else BARE
        asked.append(Choice(f"What is {'the kind of ' * seed}{WORDS[seed % 4]}?", tuple(WORDS[: 2 + seed % 3]), views))
    expected = [min(one.answers, key=lambda answer, one=one: mean_loss(bundle, one.question, answer, one.views)) for one in asked]
    assert choose(bundle, asked, VICUNA_V1) == expected
    assert [choose(bundle, [one], VICUNA_V1)[0] for one in asked] == expected


def test_losses_are_the_same_in_a_batch_of_questions_of_different_lengths(bundle: Llava):
    asked = [Choice(f"What is {'the kind of ' * times}rain?", WORDS, BARE) for times in range(5)]
    known = [choosing._encode(bundle, one, VICUNA_V1) for one in asked]
    together = choosing._mean_losses(bundle, known, [one.views for one in asked])
    expected = [mean_loss(bundle, one.question, answer, one.views) for one in asked for answer in one.answers]
    assert together.tolist() == pytest.approx(expected, abs=1e-5)


def test_of_equally_likely_answers_the_first_is_chosen(bundle: Llava):
    assert choose(bundle, [Choice("What?", ("clear", "clear"), BARE)], VICUNA_V1) == ["clear"]


def test_a_question_without_answers_is_refused(bundle: Llava):
    with pytest.raises(DataError) as caught:
        choose(bundle, [Choice("What?", ("clear",), BARE), Choice("Where is it?", (), BARE)], VICUNA_V1)
    assert str(caught.value) == "no answer to choose from for 'Where is it?'; give the answers of every question, or of none"


HOW = {"resize": "pad", "history": "corrected", "max_new_tokens": 3, "sample": False, "temperature": 1.0, "sampling_seed": 0, "tries": 1}


def test_conversations_with_choices_are_answered_by_one_of_them(bundle: Llava, tmp_path: Path):
    asked = [Conversation(str(number), (), (f"What is {word}?",), WORDS) for number, word in enumerate(WORDS)]
    rows = answer_batch(bundle, asked, tmp_path, How(template=VICUNA_V1.name, **HOW))
    assert [row.id for row in rows] == ["0", "1", "2", "3"] and all(row.answers[0] in WORDS for row in rows)


def test_a_conversation_without_pictures_has_no_mark_of_one(bundle: Llava, tmp_path: Path):
    rows = answer_batch(bundle, [Conversation("bare", (), ("What is rain?",))], tmp_path, How(template=VICUNA_V1.name, **HOW))
    assert not rows[0].failure and len(rows[0].answers) == 1
    assert conversation.next_turns(["Why?"], [], CHATML_DIRECT, history="corrected", pictured=False) == (Turn("user", "Why?"),)
