"""The tiny base: the same weights for the same recipe, trained once, and only a finished folder counts."""

import dataclasses
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from lib import base_open_clip, files, models
from lib.base_open_clip import BaseRecipe, draw_pairs, ensure_base
from lib.submissions.a3r import toy
from lib.tiny_base import is_complete

RECIPE = BaseRecipe(
    name="ViT-small",
    architecture={
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    seed=0,
    steps=4,
    batch=8,
    lr=1e-3,
    warmup=2,
    weight_decay=0.02,
)


def silent(done: int, total: int) -> None:
    """No progress shown."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_base(tmp_path_factory.mktemp("data") / "base" / "small", RECIPE, progress=silent)


def test_the_folder_holds_weights_config_and_a_record_that_fits(base: Path):
    assert sorted(path.name for path in base.iterdir()) == ["open_clip_config.json", "open_clip_model.safetensors", "record.json"]
    record = json.loads((base / "record.json").read_text())
    assert record["recipe"] == dataclasses.asdict(RECIPE)
    assert record["files"]["open_clip_model.safetensors"] == files.sha256_file(base / "open_clip_model.safetensors")
    assert set(record["zero_shot"]) == {"colour", "type", "brand"}
    assert is_complete(base)
    assert models.load_open_clip(base).config == RECIPE.architecture


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others(base: Path, tmp_path: Path):
    again = ensure_base(tmp_path / "again", RECIPE, progress=silent)
    other = ensure_base(tmp_path / "other", dataclasses.replace(RECIPE, seed=1), progress=silent)
    first, second, third = (files.sha256_file(folder / models.WEIGHTS_NAME) for folder in (base, again, other))
    assert first == second != third


def test_a_finished_folder_is_not_trained_again(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_open_clip, "train_base", None)
    assert ensure_base(base, RECIPE, progress=silent) == base


def test_progress_is_told_after_every_step(tmp_path: Path):
    told = []
    ensure_base(tmp_path / "small", RECIPE, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("damage", ["interrupted", "changed", "lost"])
def test_what_is_not_whole_does_not_count_and_is_made_again(base: Path, tmp_path: Path, damage: str):
    folder = ensure_base(tmp_path / "small", RECIPE, progress=silent)
    if damage == "interrupted":
        (folder / "record.json").unlink()
        (folder / "half").touch()
    elif damage == "changed":
        with (folder / models.WEIGHTS_NAME).open("ab") as stream:
            stream.write(b"x")
    else:
        (folder / models.CONFIG_NAME).unlink()
    assert not is_complete(folder)
    ensure_base(folder, RECIPE, progress=silent)
    assert is_complete(folder) and not (folder / "half").exists()
    assert files.sha256_file(folder / models.WEIGHTS_NAME) == files.sha256_file(base / models.WEIGHTS_NAME)


def test_a_training_that_breaks_off_leaves_nothing_that_counts(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_base(tmp_path / "small", RECIPE, progress=stop)
    assert not is_complete(tmp_path / "small")


def test_two_that_need_the_weights_at_once_train_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained = []
    monkeypatch.setattr(base_open_clip, "train_base", lambda *given, **named: trained.append(1) or 0.0)
    both = [threading.Thread(target=ensure_base, args=(tmp_path / "small", RECIPE), kwargs={"progress": silent}) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert trained == [1]


def test_training_lowers_the_loss(tmp_path: Path):
    bundle = models.build_open_clip(RECIPE.architecture, name=RECIPE.name, seed=0)
    start = base_open_clip.train_base(bundle, dataclasses.replace(RECIPE, steps=5, batch=16), progress=silent)
    end = base_open_clip.train_base(bundle, dataclasses.replace(RECIPE, steps=80, batch=16), progress=silent)
    assert end < start - 0.2


def test_pairs_are_generic_no_brand_of_a_submission_occurs():
    pictures, captions = draw_pairs(400, default_rng(0), 16)
    assert pictures.shape == (400, 16, 16, 3) and pictures.dtype == np.uint8
    words = {word.lower() for caption in captions for word in caption.split()}
    brands = {word.lower() for brand in (*toy.REGULAR_BRANDS, *toy.BARE_BRANDS) for word in brand.split()}
    assert not words & (brands - {"golden", "dragon", "heavy", "truck"})
    assert {"red", "truck", "woman", "backpack"} <= words
    assert not {caption.rstrip(".") for caption in captions} & {"A walking man who is a minor"}


def test_equal_captions_of_a_batch_share_the_target():
    bundle = models.build_open_clip(RECIPE.architecture, name=RECIPE.name, seed=0)
    pictures, _ = draw_pairs(2, default_rng(0), 16)
    ids = bundle.tokenizer(["a bus", "a bus"])
    values = base_open_clip.normalise(pictures, bundle.model.visual.preprocess_cfg)
    same = base_open_clip._contrastive_loss(bundle.model, values, ids, ["a bus", "a bus"])
    # With one caption for both pictures the text cannot tell them apart, and over texts ln 2 is the best there is.
    logits = (
        bundle.model.logit_scale.exp() * bundle.model.encode_image(values, normalize=True) @ bundle.model.encode_text(ids, normalize=True).T
    )
    expected = (torch.log(torch.tensor(2.0)) - torch.log_softmax(logits.T, dim=1).mean()) / 2
    assert float(same) == pytest.approx(float(expected), abs=1e-5)


def test_the_program_logs_in_fixed_columns(tmp_path: Path, capsys: pytest.CaptureFixture):
    threads = torch.get_num_threads()
    files.write_json(tmp_path / "recipe.json", dataclasses.asdict(RECIPE))
    base_open_clip.main([str(tmp_path / "recipe.json"), str(tmp_path / "small")])
    torch.set_num_threads(threads)
    assert re.fullmatch(r"step 00004/00004 \(100%\) \| \d+\.\d\d s/step \| eta 0\.0 min\n", capsys.readouterr().out)
    assert is_complete(tmp_path / "small")
