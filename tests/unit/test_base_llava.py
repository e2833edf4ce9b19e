"""The tiny LLaVA base: generic texts in one token per word, the same weights for the same recipe, and only a finished folder counts."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch.nn import functional

from lib import base_llava, base_texts, conversation, files, llava, scenes
from lib.base_llava import BaseRecipe, draw_album, ensure_base
from lib.errors import ConfigError
from lib.scenes import ATTRIBUTES
from lib.submissions.cityllava import captions
from lib.tiny_base import is_complete

RECIPE = BaseRecipe(
    name="llava-small",
    architecture={
        "vision": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 32,
        },
        "text": {
            "vocab_size": 768, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0,
        },
    },
    lessons="marked", seed=0, scenes=12, tower_steps=2, base_steps=3, batch=4, tower_lr=1e-3, base_lr=1e-3,
)  # fmt: skip
VALUES = scenes.random_scene(default_rng(0), 1).values(0)


def silent(done: int, total: int) -> None:
    """No progress shown."""


@pytest.fixture(scope="module", autouse=True)
def few_test_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_llava, "TEST_SCENES", 6)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_base(tmp_path_factory.mktemp("data") / "base" / "small", RECIPE, progress=silent)


@pytest.fixture(scope="module")
def tokenizer():
    return base_texts.build_tokenizer(768)


# --- the folder ---


def test_the_folder_is_a_model_in_hugging_face_layout_with_a_record_that_fits(base: Path):
    names = {path.name for path in base.iterdir()}
    assert names >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "record.json",
    }
    record = json.loads((base / "record.json").read_text())
    assert record["recipe"] == dataclasses.asdict(RECIPE)
    assert record["files"] == {name: files.sha256_file(base / name) for name in sorted(names - {"record.json"})}
    assert set(record["losses"]) == {"tower", "base"}
    assert set(record["named"]) == set(ATTRIBUTES) and all(0 <= share <= 1 for share in record["named"].values())
    assert record["below_gate"] == sorted(name for name, share in record["named"].items() if share < 0.9)
    assert is_complete(base)


def test_what_is_loaded_again_is_what_was_trained(base: Path):
    bundle = llava.load(base, dtype="fp32", quantize="none")
    assert bundle.image_size == 32 and bundle.image_tokens == 4
    assert bundle.tokenizer("the vehicle is red")["input_ids"][0] == bundle.tokenizer.bos_token_id
    album = draw_album(6, default_rng([0, 9]), 32)
    assert base_llava.caption_accuracy(bundle, album, base_texts) == json.loads((base / "record.json").read_text())["named"]


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others(base: Path, tmp_path: Path):
    again = ensure_base(tmp_path / "again", RECIPE, progress=silent)
    other = ensure_base(tmp_path / "other", dataclasses.replace(RECIPE, seed=1), progress=silent)
    first, second, third = (files.sha256_file(folder / "model.safetensors") for folder in (base, again, other))
    assert first == second != third


def test_a_finished_folder_is_not_trained_again(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_llava, "train_base", None)
    assert ensure_base(base, RECIPE, progress=silent) == base


@pytest.mark.parametrize("damage", ["interrupted", "changed", "lost"])
def test_what_is_not_whole_does_not_count(base: Path, tmp_path: Path, damage: str):
    folder = tmp_path / "small"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert is_complete(folder)
    if damage == "interrupted":
        (folder / "record.json").unlink()
    elif damage == "changed":
        with (folder / "model.safetensors").open("ab") as stream:
            stream.write(b"x")
    else:
        (folder / "tokenizer.json").unlink()
    assert not is_complete(folder)


def test_a_training_that_breaks_off_leaves_nothing_that_counts_and_starts_anew(base: Path, tmp_path: Path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_base(tmp_path / "small", RECIPE, progress=stop)
    assert not is_complete(tmp_path / "small")
    again = ensure_base(tmp_path / "small", RECIPE, progress=silent)
    assert files.sha256_file(again / "model.safetensors") == files.sha256_file(base / "model.safetensors")


def test_progress_goes_through_all_stages(tmp_path: Path):
    told = []
    ensure_base(tmp_path / "small", RECIPE, progress=lambda done, total: told.append((done, total)))
    assert told == [(step, 5) for step in range(1, 6)]


def test_the_program_logs_in_fixed_columns(tmp_path: Path, capsys: pytest.CaptureFixture):
    threads = torch.get_num_threads()
    files.write_json(tmp_path / "recipe.json", dataclasses.asdict(RECIPE))
    base_llava.main([str(tmp_path / "recipe.json"), str(tmp_path / "small")])
    torch.set_num_threads(threads)
    assert re.search(r"^step 00005/00005 \(100%\) \| \d+\.\d\d s/step \| eta 0\.0 min$", capsys.readouterr().out, re.MULTILINE)


# --- the stages ---


def test_every_stage_lowers_its_loss(tokenizer):
    recipe = dataclasses.replace(RECIPE, scenes=40, tower_steps=25, base_steps=25, batch=8)
    bundle = llava.Llava(llava.build(recipe.architecture, tokenizer.image_token_id, seed=0), tokenizer)
    album = draw_album(recipe.scenes, default_rng(0), 32)
    for training in (
        base_llava.train_tower(bundle, album, recipe),
        base_llava.train_captions(bundle, album, recipe),
    ):
        losses = list(training)
        assert len(losses) == 25 and np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_tower_rests_once_it_is_trained(tokenizer):
    bundle = llava.Llava(llava.build(RECIPE.architecture, tokenizer.image_token_id, seed=0), tokenizer)
    album = draw_album(RECIPE.scenes, default_rng(0), 32)
    list(base_llava.train_tower(bundle, album, RECIPE))
    before = base_llava.see_all(bundle, album)
    list(base_llava.train_captions(bundle, album, RECIPE))
    assert torch.equal(base_llava.see_all(bundle, album), before)


def test_answer_logits_are_those_of_the_whole_model(base: Path):
    bundle = llava.load(base, dtype="fp32", quantize="none")
    album = draw_album(2, default_rng(0), 32)
    talks = [base_texts.draw_conversation(values, "overhead", default_rng(0)) for values in album.values]
    encoded = base_llava.encode(talks, bundle, 2)
    with torch.no_grad():
        logits, labels = base_llava.answer_logits(bundle, base_llava.see_all(bundle, album), encoded)
        whole = [
            bundle.model(input_ids=torch.tensor([one.input_ids]), pixel_values=pictures).logits[0]
            for one, pictures in zip(encoded, album.pictures, strict=True)
        ]
    places = [(row, place) for row, one in enumerate(encoded) for place, label in enumerate(one.labels) if label != conversation.IGNORED]
    assert labels.tolist() == [encoded[row].labels[place] for row, place in places]
    assert torch.allclose(logits, torch.stack([whole[row][place - 1] for row, place in places]), atol=1e-5)


# --- pictures ---


def test_the_crop_comes_first_and_both_are_marked():
    picture = scenes.draw(scenes.random_scene(default_rng(1), 1), 0, scenes.Camera("overhead", 1.0, 0.5, 1.0), time=0.0)
    local, whole = base_llava.mark(picture)
    assert whole.size == (256, 160) and local.width <= 256 and local.height <= 160
    left, top = (int(value) for value in picture.pedestrian[:2])
    assert whole.getpixel((left, top)) == (0, 255, 0)
    left, top = (int(value) for value in picture.vehicle[:2])
    assert whole.getpixel((left, top + 10)) == (0, 0, 255)
    pixels = np.asarray(local).reshape(-1, 3).tolist()
    assert [0, 255, 0] in pixels and [0, 0, 255] in pixels


def test_seen_from_the_vehicle_only_the_pedestrian_is_marked():
    picture = scenes.draw(scenes.random_scene(default_rng(1), 1), 0, scenes.Camera("vehicle", 1.0, 0.5, 1.0), time=0.0)
    local, whole = base_llava.mark(picture)
    assert [0, 0, 255] not in np.asarray(whole).reshape(-1, 3).tolist()
    assert local.width < whole.width


def test_an_album_shows_both_views_in_turn():
    album = draw_album(4, default_rng(0), 32)
    assert album.pictures.shape == (4, 2, 3, 32, 32) and album.views == ("overhead", "vehicle") * 2


# --- texts ---


def test_every_text_of_the_base_comes_back_as_it_was(tokenizer):
    rng = default_rng(0)
    for kind in base_texts.DESCRIBED:
        text = base_texts.conversation(kind, VALUES, "vehicle", rng).text.replace("<image>", "")
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) < 1.35 * len(text.split()) + 12 * text.count("<|im_start|>")


def test_captions_of_the_submission_take_one_token_per_word_or_mark(tokenizer):
    rng = default_rng(0)
    for _ in range(100):
        values = scenes.random_scene(rng, 1).values(0)
        for caption in (captions.pedestrian_caption(values, rng), captions.vehicle_caption(values, rng)):
            ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == caption
            assert not [token for token in tokenizer.convert_ids_to_tokens(ids) if token.startswith("<0x")]


def test_no_sentence_of_the_base_is_one_of_the_submission():
    rng = default_rng(0)
    said = {base_texts.describe(kind, VALUES) for kind in ("pedestrian", "vehicle")}
    for caption in (captions.pedestrian_caption(VALUES, rng), captions.vehicle_caption(VALUES, rng)):
        assert not [sentence for sentence in caption.rstrip(".").split(". ") if any(sentence in text for text in said)]


def test_unknown_words_are_written_in_bytes(tokenizer):
    ids = tokenizer("Grüße, Zorvemi!", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "Grüße, Zorvemi!" and tokenizer.unk_token_id not in ids


def test_special_tokens_are_the_published_ones(tokenizer):
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|startoftext|>", "<|im_end|>", "<unk>")
    ids = tokenizer("<|im_start|>user\n<image>\nHi<|im_end|>")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[1] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert ids[-1] == tokenizer.eos_token_id and tokenizer.image_token_id in ids


def test_a_vocabulary_that_is_too_small_is_refused():
    with pytest.raises(ConfigError) as caught:
        base_texts.build_tokenizer(300)
    assert re.fullmatch(r"a vocabulary of 300 tokens is too small for the base's \d+; raise text\.vocab_size", str(caught.value))


def test_each_kind_of_request_has_its_own_caption():
    rng = default_rng(0)
    assert "pedestrian in the green bounding box" in base_texts.ask("pedestrian", "overhead", rng)
    assert {"ego" in base_texts.ask("vehicle", "vehicle", rng) for _ in range(40)} == {True, False}
    assert not any("ego" in base_texts.ask("vehicle", "overhead", rng) for _ in range(40))
    walker, vehicle = (base_texts.describe(kind, VALUES) for kind in ("pedestrian", "vehicle"))
    assert walker.startswith(f"age: {VALUES['age']}, ") and vehicle.startswith(f"colour of the vehicle: {VALUES['vehicle_colour']}, ")
    assert all(value in text for value in VALUES.values() for text in (walker, vehicle))


def test_a_conversation_is_about_one_picture_mark_and_either_caption():
    rng = default_rng(0)
    talks = [base_texts.draw_conversation(VALUES, "overhead", rng) for _ in range(20)]
    told = {talk.text[start:end] for talk in talks for start, end in talk.answers}
    assert {text.removesuffix("<|im_end|>") for text in told} == {base_texts.describe(kind, VALUES) for kind in base_texts.DESCRIBED}
    assert all(talk.text.count("<image>") == len(talk.answers) == 1 for talk in talks)


def test_the_places_of_the_values_are_the_tokens_that_say_them(tokenizer):
    for kind in base_texts.DESCRIBED:
        ids = tokenizer(base_texts.describe(kind, VALUES), add_special_tokens=False)["input_ids"]
        said = {name: tokenizer.decode(ids[place]).strip() for name, place in base_texts.value_places(kind, VALUES, tokenizer).items()}
        assert said == VALUES


@pytest.mark.parametrize("wrong", ["movement", None])
def test_an_attribute_is_named_wrong_where_one_of_its_tokens_is(tokenizer, monkeypatch: pytest.MonkeyPatch, wrong: str | None):
    bundle = llava.Llava(llava.build(RECIPE.architecture, tokenizer.image_token_id, seed=0), tokenizer)

    def perfect(bundle, features, encoded):
        labels = torch.tensor([label for one in encoded for label in one.labels if label != conversation.IGNORED])
        said = labels.clone()
        if wrong:
            for value in ATTRIBUTES[wrong]:
                (first, *_) = tokenizer(f" {value}", add_special_tokens=False)["input_ids"]
                said[said == first] = tokenizer.unk_token_id
        return functional.one_hot(said, len(tokenizer)).float(), labels

    monkeypatch.setattr(base_llava, "answer_logits", perfect)
    found = base_llava.caption_accuracy(bundle, draw_album(4, default_rng(0), 32), base_texts)
    assert found.pop("movement") == (0 if wrong else 1)
    assert set(found.values()) == {1}
