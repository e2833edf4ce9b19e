"""Snapshots of the traffic world, what the base of snapshots says about them, and how it is trained on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from lib import base_llava, scenes, snapshot_texts, snapshots
from lib.base_llava import BaseRecipe, draw_snapshots, ensure_base
from lib.conversation import VICUNA_V1
from lib.scenes import ATTRIBUTES

VALUES = scenes.random_scene(default_rng(0), 1).values(0)
RECIPE = BaseRecipe(
    name="llava-small",
    architecture={
        "vision": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 32,
        },
        "text": {
            "vocab_size": 768, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        },
    },
    lessons="snapshots", seed=0, scenes=8, tower_steps=2, base_steps=3, batch=2, tower_lr=1e-3, base_lr=1e-3,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return snapshot_texts.build_tokenizer(768)


def test_a_snapshot_holds_both_boxes_and_all_of_the_height():
    rng = default_rng(1)
    for _ in range(40):
        found = snapshots.take(scenes.random_scene(rng, 1), rng)
        assert found.picture.height == scenes.HEIGHT and found.picture.width < scenes.WIDTH + 1
        for x, y, width, height in (found.pedestrian, found.vehicle):
            assert x >= 0 and y >= 0 and x + width <= found.picture.width and y + height <= found.picture.height


def test_the_same_generator_takes_the_same_snapshot():
    first, second = (snapshots.take(scenes.random_scene(default_rng(3), 1), default_rng(4)) for _ in range(2))
    assert np.array_equal(np.asarray(first.picture), np.asarray(second.picture)) and first.vehicle == second.vehicle


def test_the_album_of_snapshots_has_one_picture_of_each_scene():
    album = draw_snapshots(3, default_rng(0), 32)
    assert album.pictures.shape == (3, 1, 3, 32, 32) and album.pictures.dtype == torch.float32
    assert all(set(values) == set(ATTRIBUTES) for values in album.values)


def test_the_base_says_how_a_vehicle_moves_only_by_its_signs():
    rng, said = default_rng(0), ""
    for _ in range(300):
        talk = snapshot_texts.draw_conversation(VALUES, "overhead", rng)
        said += " ".join(talk.text[start:end] for start, end in talk.answers)
    assert [value for value in VALUES.values() if value not in said] == [VALUES["driving"]]
    assert snapshot_texts.SIGNS[VALUES["driving"]] in said and set(snapshot_texts.SIGNS) == set(ATTRIBUTES["driving"])


def test_a_conversation_is_in_the_words_of_llava_15_about_one_picture():
    rng = default_rng(0)
    for _ in range(50):
        talk = snapshot_texts.draw_conversation(VALUES, "overhead", rng)
        assert talk.text.startswith(f"{VICUNA_V1.system}USER: <image>\n") and talk.text.count("<image>") == 1
        assert all(talk.text[start:end].startswith(" ") and talk.text[start:end].endswith("</s>") for start, end in talk.answers)


def test_every_word_of_a_conversation_is_one_token(tokenizer):
    line_end = tokenizer.convert_ids_to_tokens(tokenizer("\n", add_special_tokens=False)["input_ids"])
    rng = default_rng(0)
    for _ in range(100):
        text = snapshot_texts.draw_conversation(VALUES, "overhead", rng).text.replace("<image>", "")
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert len(line_end) == 1 and not [token for token in tokens if token.startswith("<0x") and token not in line_end]


def test_special_tokens_are_those_of_vicuna(tokenizer):
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<unk>")
    ids = tokenizer("USER: <image>\nHi</s>")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id and tokenizer.image_token_id in ids


def test_the_base_is_trained_on_snapshots_and_names_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_llava, "TEST_SCENES", 4)
    steps = []
    folder = ensure_base(tmp_path / "base", RECIPE, progress=lambda done, total: steps.append((done, total)))
    record = base_llava.tiny_base.files.read_json(folder / "record.json")
    assert steps[-1] == (5, 5) and record["recipe"]["lessons"] == "snapshots"
    assert set(record["named"]) == set(ATTRIBUTES)
