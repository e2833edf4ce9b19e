"""Samples for training: encoded, dropped with a reason, collated, ordered; and the model's answers do not depend on the batch."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Generator
from torch.utils.data import DataLoader

from lib.conversation import CHATML_DIRECT, IGNORED, Turn
from lib.datasets import (
    Collator,
    InstructionDataset,
    Sample,
    SampleOrder,
    count_words,
    deal_evenly,
    encode_prompt,
    group_by_length,
    group_by_modality,
    pad_left,
    read_samples,
    share,
    untrained_picture,
)
from lib.errors import DataError
from lib.llava import Llava
from tests.tiny_llava import build_bundle

ASKED = Turn("user", "<image>\nWhere is the vehicle?")
SHORT = Sample("short", (ASKED, Turn("assistant", "Left.")), ("0.png", "1.png"))
LONG = Sample("long", (ASKED, Turn("assistant", "The vehicle is on the right of the pedestrian.")), ("2.png", "3.png"))
TEXT_ONLY = Sample("text", (Turn("user", "How fast?"), Turn("assistant", "At 20 km/h.")), ())

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Llava:
    return build_bundle(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 256, (20, 30 + number, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def open_set(bundle: Llava, media_root: Path):
    """A function that opens a data set of these samples."""

    def open_set(*samples: Sample, max_length: int = 400) -> InstructionDataset:
        return InstructionDataset(
            samples, bundle=bundle, template=CHATML_DIRECT, media_root=media_root, resize="squash", max_length=max_length
        )

    return open_set


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


# --- samples ---


def test_a_sample_becomes_ids_labels_and_views(open_set, bundle: Llava):
    item = open_set(SHORT)[0]
    assert item["pixel_values"].shape == (2, 3, 28, 28)
    assert item["input_ids"].count(bundle.tokenizer.image_token_id) == 2 * bundle.image_tokens
    trained = [label for label in item["labels"] if label != IGNORED]
    assert bundle.tokenizer.decode(trained, skip_special_tokens=True).strip() == "Left."


def test_local_alone_takes_half_the_places(open_set, bundle: Llava):
    item = open_set(Sample("one", SHORT.turns, ("0.png",)))[0]
    assert item["input_ids"].count(bundle.tokenizer.image_token_id) == bundle.image_tokens


def test_samples_are_read_from_json_lines(tmp_path: Path):
    row = {
        "id": "short", "turns": [{"role": turn.role, "text": turn.text} for turn in SHORT.turns], "pictures": list(SHORT.pictures),
    }  # fmt: skip
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert read_samples(path) == [SHORT]
    row["turns"][0]["role"] = "human"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"samples\.jsonl: row 1: turns\.0\.role: Input should be 'user' or 'assistant'"):
        read_samples(path)


def test_samples_with_nothing_to_train_are_dropped_and_counted(open_set, caplog: pytest.LogCaptureFixture):
    unanswered = Sample("unanswered", (ASKED, Turn("assistant", "")), ("0.png", "1.png"))
    marked = Sample("marked", (ASKED, Turn("assistant", "a <|im_end|> b")), ("0.png", "1.png"))
    blind = Sample("blind", SHORT.turns, ())
    with caplog.at_level(logging.WARNING):
        dataset = open_set(unanswered, SHORT, marked, blind)
    assert dataset.samples == [SHORT]
    assert dataset.dropped == {
        "unanswered": "no answer within 400 tokens",
        "marked": "turn 2, an answer, contains '<|im_end|>'; take it out of the text or leave the sample out",
        "blind": "1 times <image> in the conversation with 0 image tokens; it stands once for all pictures",
    }
    assert caplog.messages == ["3 of 4 samples are not trained; the first is unanswered: no answer within 400 tokens"]


def test_a_sample_whose_answer_is_cut_away_is_dropped(open_set, bundle: Llava):
    needed = len(encode_prompt(bundle, [ASKED], CHATML_DIRECT, views=2))
    assert open_set(SHORT, max_length=needed + 1).dropped == {}
    with pytest.raises(DataError) as caught:
        open_set(SHORT, max_length=needed)
    assert str(caught.value) == f"none of 1 samples can be trained; the first is short: no answer within {needed} tokens"


def test_an_empty_list_of_samples_is_refused(open_set):
    with pytest.raises(DataError) as caught:
        open_set()
    assert str(caught.value) == "none of 0 samples can be trained; the list is empty"


def test_a_missing_picture_is_named(open_set, media_root: Path):
    dataset = open_set(Sample("lost", SHORT.turns, ("0.png", "lost.png")))
    with pytest.raises(DataError) as caught:
        dataset[0]
    assert str(caught.value) == f"{media_root / 'lost.png'}: no such picture; run the stage that renders it again"


def test_words_are_counted_over_all_turns_and_negative_without_pictures(open_set):
    assert open_set(SHORT, TEXT_ONLY).lengths == [6, -5]
    assert count_words(Sample("empty", (Turn("user", ""),), ())) == -1


# --- batches ---


def test_a_batch_is_padded_on_the_right_and_keeps_its_views_in_order(open_set):
    items = list(map(open_set(SHORT, TEXT_ONLY, LONG).__getitem__, range(3)))
    batch = Collator(0)(items)
    lengths = [len(item["input_ids"]) for item in items]
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    for row, item in enumerate(items):
        end = lengths[row]
        assert batch["input_ids"][row, :end].tolist() == item["input_ids"]
        assert batch["labels"][row].tolist() == item["labels"] + [IGNORED] * (max(lengths) - end)
        assert (batch["input_ids"][row, end:] == 0).all() and (batch["attention_mask"][row, :end] == 1).all()
    assert torch.equal(batch["pixel_values"], torch.cat([items[0]["pixel_values"], items[2]["pixel_values"]]))


def test_a_batch_of_texts_has_no_pixels(open_set):
    assert set(Collator(0)([open_set(TEXT_ONLY)[0]])) == {"input_ids", "attention_mask", "labels"}


def test_a_picture_that_trains_nothing_joins_batches_of_texts_only(open_set, bundle: Llava):
    items = list(map(open_set(SHORT, TEXT_ONLY).__getitem__, range(2)))
    plain, beside = Collator(0), Collator(0, untrained_picture(bundle))
    assert all(torch.equal(value, beside(items)[name]) for name, value in plain(items).items())
    batch = beside([items[1], items[1]])
    assert batch["input_ids"].shape[0] == 3 and batch["pixel_values"].shape[0] == 1
    assert torch.equal(batch["input_ids"][:2], plain([items[1], items[1]])["input_ids"])
    assert (batch["labels"][2] == IGNORED).all() and not batch["pixel_values"].any()


def test_prompts_are_padded_on_the_left():
    batch = pad_left([[5, 6, 7], [8]], 0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_workers_of_a_loader_get_no_model(open_set):
    dataset = open_set(SHORT, LONG)
    assert not any(isinstance(value, torch.nn.Module | Llava) for value in vars(dataset).values())
    order = SampleOrder(dataset.lengths, 1, 1, 0, grouped=False)
    batches = list(DataLoader(dataset, batch_size=1, sampler=order, collate_fn=Collator(0), num_workers=1))
    assert len(batches) == 2


# --- the model ---


def test_the_loss_of_a_batch_is_the_mean_over_its_answer_tokens(open_set, bundle: Llava):
    items = list(map(open_set(SHORT, LONG, TEXT_ONLY).__getitem__, range(3)))
    with torch.inference_mode():
        together = bundle.model(**Collator(0)(items)).loss
        alone = [bundle.model(**Collator(0)([item])).loss for item in items]
    tokens = [sum(label != IGNORED for label in item["labels"]) for item in items]
    assert together == pytest.approx(np.average(alone, weights=tokens), rel=1e-5)


def test_a_picture_beside_texts_changes_no_loss_and_gives_the_projector_a_gradient_of_zero(open_set, bundle: Llava):
    texts = [open_set(TEXT_ONLY)[0]] * 2
    model, found = bundle.model, []
    for collate in (Collator(0), Collator(0, untrained_picture(bundle))):
        model.zero_grad(set_to_none=True)
        loss = model(**collate(texts)).loss
        loss.backward()
        found.append((loss.detach(), {name: value.grad for name, value in model.named_parameters()}))
    (loss, alone), (same_loss, beside) = found
    model.zero_grad(set_to_none=True)
    torch.testing.assert_close(same_loss, loss)
    projector = {name for name in alone if "multi_modal_projector" in name}
    assert len(projector) == 4 and all(alone[name] is None and not beside[name].any() for name in projector)
    for name, gradient in alone.items():
        if gradient is not None:
            torch.testing.assert_close(beside[name], gradient, msg=name)


def test_answers_in_a_batch_are_those_of_each_prompt_alone(open_set, bundle: Llava):
    dataset = open_set(SHORT, LONG)
    questions = [Turn("user", "<image>\nWhere?"), LONG.turns[0]]
    prompts = [encode_prompt(bundle, [question], CHATML_DIRECT, views=2) for question in questions]
    assert len(prompts[0]) < len(prompts[1])
    pixels = [dataset[index]["pixel_values"] for index in range(2)]
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": -1}
    with torch.inference_mode():
        together = bundle.model.generate(**pad_left(prompts, 0), pixel_values=torch.cat(pixels), **settings)
        alone = [bundle.model.generate(**pad_left([p], 0), pixel_values=v, **settings) for p, v in zip(prompts, pixels, strict=True)]
    assert together[:, -6:].tolist() == [answer[0, -6:].tolist() for answer in alone]


def test_a_prompt_longer_than_the_model_has_positions_is_refused(bundle: Llava):
    turns = [Turn("user", "<image>\n" + "Where? " * 600)]
    with pytest.raises(DataError, match=r"^the prompt needs \d+ tokens, 512 are allowed; raise the maximum length$"):
        encode_prompt(bundle, turns, CHATML_DIRECT, views=2)


# --- the order ---


@given(LENGTHS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_every_sample_comes_once_per_epoch(lengths: list[int], batch_size: int, world: int, seed: int):
    for grouped in (True, False):
        assert sorted(SampleOrder(lengths, batch_size, world, seed, grouped=grouped)) == list(range(len(lengths)))


def test_the_order_depends_on_seed_and_epoch_alone():
    order = SampleOrder(range(1, 41), 2, 4, 7, grouped=True)
    first = list(order)
    torch.manual_seed(99)
    assert first == list(order) == list(SampleOrder(range(1, 41), 2, 4, 7, grouped=True))
    order.set_epoch(1)
    assert list(order) != first and len(order) == 40
    assert list(SampleOrder(range(1, 41), 2, 4, 8, grouped=True)) == list(order)  # seed + epoch


@given(st.lists(st.integers(1, 50), min_size=12, max_size=12).filter(lambda lengths: len(set(lengths)) > 1))
def test_a_megabatch_goes_from_long_to_short_in_even_chunks(lengths: list[int]):
    order = group_by_length(lengths, 2, 3, generator())
    drawn = torch.randperm(12, generator=generator()).tolist()
    for start in (0, 6):
        assert sorted(order[start : start + 6]) == sorted(drawn[start : start + 6])
        chunks = [order[place : place + 2] for place in range(start, start + 6, 2)]
        assert all(lengths[one] >= lengths[other] for one, other in chunks)


def test_chunks_are_dealt_by_their_sum_and_round_about_when_uneven():
    assert deal_evenly([0, 1, 2, 3], [9, 7, 5, 3], 2) == [[0, 3], [1, 2]]
    assert deal_evenly([0, 1, 2, 3], [9, 1, 1, 1], 2) == [[0, 3], [1, 2]]
    assert deal_evenly([0, 1, 2, 3, 4], [5, 4, 3, 2, 1], 2) == [[0, 2, 4], [1, 3]]


@given(st.lists(st.integers(-30, 30).filter(bool), min_size=1, max_size=60))
def test_only_the_last_megabatch_mixes_texts_and_pictures(lengths: list[int]):
    order = group_by_modality(lengths, 2, 2, generator())
    assert sorted(order) == list(range(len(lengths)))
    signs = [lengths[index] > 0 for index in order]
    rest = sum((signs.count(sign) - 1) % 4 + 1 for sign in (True, False) if sign in signs)
    whole = len(order) - rest
    assert all(len(set(signs[start : start + 4])) == 1 for start in range(0, whole, 4))


# --- shares ---


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_shares_are_even_and_together_everything(items: list[int], parts: int):
    shares = [share(items, part, parts) for part in range(parts)]
    assert sorted(item for one in shares for item in one) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
