"""LLaVA models: built, saved, loaded or refused; their pictures; and two pictures per conversation through the model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.quantizers.quantizers_utils import should_convert_module

from lib import adapters, llava
from lib.errors import ConfigError, DataError, DiskFull, KitError, MissingInput, WeightsError
from lib.llava import (
    ARCHITECTURES,
    PAD_COLOUR,
    VICUNA_IMAGE_TOKEN,
    YI_IMAGE_TOKEN,
    Llava,
    build,
    configure,
    load,
    pixel_values,
    prepare,
    save,
)
from tests.tiny_llava import TEXT, VISION, build_bundle

SMALL = {"vision": VISION, "text": {**TEXT, "vocab_size": 40}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Llava:
    return build_bundle(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def saved(bundle: Llava, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(bundle, folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def refusal(kind: type[KitError], call) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- architectures ---


@pytest.mark.parametrize(("name", "parameters"), [("llava-v1.6-34b", 34_388_917_248), ("llava-v1.6-34b-12block", 41_083_198_464)])
def test_the_published_language_models_have_their_published_size(name: str, parameters: int):
    with torch.device("meta"):
        model = build(ARCHITECTURES[name], YI_IMAGE_TOKEN, seed=0)
    layers = model.model.language_model.layers
    assert sum(value.numel() for value in [*model.model.language_model.parameters(), *model.lm_head.parameters()]) == parameters
    assert {sum(value.numel() for value in layer.parameters()) for layer in layers} == {557_856_768}
    assert model.lm_head.weight.numel() == 458_752_000
    assert model.config.image_seq_length == 576


def test_llava_1_5_has_the_published_size_and_so_have_its_adapters_and_projector():
    with torch.device("meta"):
        model = build(ARCHITECTURES["llava-v1.5-7b"], VICUNA_IMAGE_TOKEN, seed=0)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    parts = (model.model.language_model, model.lm_head, model.model.multi_modal_projector)
    language, head, projector = (sum(value.numel() for value in part.parameters()) for part in parts)
    assert language + head == 6_738_415_616  # LLaMA-7B
    assert (projector, adapters.count_values(shapes, 128)) == (20_979_712, 319_815_680)
    assert model.config.image_seq_length == 576


def test_features_are_the_patches_of_the_last_layer_but_one():
    config = configure(SMALL, 3)
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (-2, "default")
    assert (config.projector_hidden_act, config.image_token_index, config.image_seq_length) == ("gelu", 3, 4)


def test_a_seed_decides_the_weights_and_leaves_torchs_own_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (build(SMALL, 3, seed=seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_an_architecture_has_two_parts_and_the_image_token_is_in_the_vocabulary():
    assert refusal(ConfigError, lambda: configure({"text": {}}, 3)) == (
        "an architecture with the parts text; a LLaVA architecture has vision and text"
    )
    for token in (40, -200):
        assert refusal(ConfigError, lambda token=token: configure(SMALL, token)) == (
            f"image token {token}; it must be one of the 40 ids of the vocabulary"
        )


# --- saving and loading ---


def test_a_saved_model_is_loaded_with_the_same_weights_and_the_same_ids(bundle: Llava, saved: Path):
    loaded = load(saved, dtype="fp32", quantize="none")
    weights = loaded.model.state_dict()
    assert weights.keys() == bundle.model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in bundle.model.state_dict().items())
    text = "<|im_start|>user\nWhere is the vehicle, 漢?<|im_end|><|im_start|>assistant\nThe"
    assert loaded.tokenizer(text)["input_ids"] == bundle.tokenizer(text)["input_ids"]
    assert loaded.tokenizer.image_token_id == bundle.tokenizer.image_token_id
    assert (loaded.image_size, loaded.image_tokens, loaded.end_id) == (28, 4, bundle.tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert not loaded.model.training
    assert loaded.to("cpu").model is loaded.model


def test_weights_are_loaded_in_the_type_asked_for(saved: Path):
    assert {value.dtype for value in load(saved, dtype="bf16", quantize="none").model.parameters()} == {torch.bfloat16}


def test_the_folder_has_what_other_programs_read(saved: Path):
    names = {"config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"}
    assert names <= {path.name for path in saved.iterdir()}
    preprocessor = json.loads((saved / "preprocessor_config.json").read_text())
    assert preprocessor["crop_size"] == {"height": 28, "width": 28}
    assert preprocessor["image_mean"] == list(llava.MEAN)


def test_large_weights_are_written_in_shards(bundle: Llava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(llava, "SHARD", "50KB")
    save(bundle, tmp_path / "model")
    assert len(list((tmp_path / "model").glob("model-*-of-*.safetensors"))) > 1
    loaded = load(tmp_path / "model", dtype="fp32", quantize="none")
    assert torch.equal(loaded.model.lm_head.weight, bundle.model.lm_head.weight)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: ... (os error 28)")])
def test_a_full_disk_is_named(bundle: Llava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(bundle.model, "save_pretrained", full)
    assert refusal(DiskFull, lambda: save(bundle, tmp_path)) == (
        f"{tmp_path}: no space left on this disk; free some and give the same command again, finished work is kept"
    )


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    assert refusal(MissingInput, lambda: load(tmp_path, dtype="fp32", quantize="none")) == (
        f"{tmp_path}: no config.json in it, so not a model in Hugging Face layout; name the folder that holds one"
    )


def test_a_model_of_another_family_is_refused(copied: Path):
    change_json(copied / "config.json", model_type="llava_next")
    assert refusal(WeightsError, lambda: load(copied, dtype="fp32", quantize="none")) == (
        f"{copied}: a model of type 'llava_next', expected 'llava'; convert it first"
    )


def test_weights_that_are_cut_off_are_refused(copied: Path):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    message = refusal(WeightsError, lambda: load(copied, dtype="fp32", quantize="none"))
    assert message.startswith(f"{copied}: cannot be loaded (") and message.endswith("); copy or convert it again")


def test_missing_and_foreign_weights_are_refused_and_not_made_up(copied: Path):
    path = copied / "model.safetensors"
    weights = load_file(path)
    weights["foreign.weight"] = weights.pop("language_model.lm_head.weight")
    save_file(weights, path, metadata={"format": "pt"})
    assert refusal(WeightsError, lambda: load(copied, dtype="fp32", quantize="none")) == (
        f"{copied}: 1 missing keys (lm_head.weight, ...); the weights are of another model"
    )
    weights["language_model.lm_head.weight"] = weights["foreign.weight"].clone()
    save_file(weights, path, metadata={"format": "pt"})
    assert refusal(WeightsError, lambda: load(copied, dtype="fp32", quantize="none")) == (
        f"{copied}: 1 unexpected keys (foreign.weight, ...); the weights are of another model"
    )


def test_tokenizer_and_model_must_agree_on_the_image_token(copied: Path):
    image_token = json.loads((copied / "config.json").read_text())["image_token_index"]
    change_json(copied / "config.json", image_token_index=7)
    assert refusal(WeightsError, lambda: load(copied, dtype="fp32", quantize="none")) == (
        f"{copied}: the tokenizer names {image_token} as image token, the model 7; "
        'set extra_special_tokens {"image_token": ...} in tokenizer_config.json'
    )


def test_four_bits_need_a_gpu(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(ConfigError, lambda: load(saved, dtype="fp16", quantize="nf4")) == (
        f'{saved}: 4-bit weights (nf4) need an NVIDIA GPU, and there is none here; set quantize to "none"'
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(llava.importlib.util, "find_spec", lambda name: None)
    assert refusal(ConfigError, lambda: load(saved, dtype="fp16", quantize="nf4")) == (
        f'{saved}: 4-bit weights (nf4) need bitsandbytes; install the extra `gpu`, or set quantize to "none"'
    )


def test_four_bits_are_for_language_model_and_projector_alone(bundle: Llava):
    linear = [name for name, module in bundle.model.named_modules() if isinstance(module, torch.nn.Linear)]
    converted = [name for name in linear if should_convert_module(name, llava.UNQUANTIZED)]
    assert {name.split(".")[1] for name in converted} == {"language_model", "multi_modal_projector"}
    assert {name.split(".")[1] for name in set(linear) - set(converted) - {"lm_head"}} == {"vision_tower"}


# --- pictures ---


def test_squashed_pictures_come_in_their_order_whatever_their_shape():
    local, whole = picture(10, 40, seed=1), picture(64, 36, seed=2)
    views = prepare([local, whole], 28, "squash")
    assert (views.shape, views.dtype) == ((2, 3, 28, 28), np.float32)
    assert np.array_equal(views[0], llava.normalise(local, 28)) and np.array_equal(views[1], llava.normalise(whole, 28))


def test_white_and_black_become_clips_numbers():
    white, black = (llava.normalise(Image.new("L", (5, 9), value), 14) for value in (255, 0))
    for channel, (mean, std) in enumerate(zip(llava.MEAN, llava.STD, strict=True)):
        assert white[channel] == pytest.approx((1 - mean) / std, abs=1e-5)
        assert black[channel] == pytest.approx(-mean / std, abs=1e-5)


@pytest.mark.parametrize(("width", "height"), [(4, 2), (2, 5), (3, 3), (1, 4)])
def test_a_padded_picture_stands_in_the_middle_of_the_mean_colour(width: int, height: int):
    assert PAD_COLOUR == (122, 116, 104)
    side, given = max(width, height), picture(width, height)
    square = llava.pad_to_square(given)
    left, top = (side - width) // 2, (side - height) // 2
    assert square.size == (side, side)
    assert square.crop((left, top, left + width, top + height)).tobytes() == given.tobytes()
    outside = np.ones((side, side), dtype=bool)
    outside[top : top + height, left : left + width] = False
    assert (np.asarray(square)[outside] == PAD_COLOUR).all()
    assert np.array_equal(prepare([given], 28, "pad")[0], llava.normalise(square, 28))


def test_anyres_shows_the_picture_whole_and_then_its_tiles_row_by_row():
    wide = Image.new("RGB", (84, 28))
    for column, colour in enumerate(("red", "lime", "blue")):
        wide.paste(colour, (28 * column, 0, 28 * column + 28, 28))
    views = llava.tiles(wide, 28)
    assert views[0] is wide
    assert [view.getpixel((14, 14)) for view in views[1:]] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert prepare([wide, wide], 28, "anyres").shape == (8, 3, 28, 28)


def test_anyres_centres_what_does_not_fill_its_grid_on_black():
    views = llava.tiles(Image.new("RGB", (56, 40), "white"), 28)
    assert len(views) == 5
    assert views[1].getpixel((5, 2)) == (0, 0, 0) and views[1].getpixel((5, 20)) == (255, 255, 255)


@pytest.mark.parametrize("resize", ["squash", "pad", "anyres"])
def test_views_are_counted_without_preparing_them(tmp_path: Path, resize: llava.Resize):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, size in zip(paths, [(84, 30), (20, 21)], strict=True):
        picture(*size).save(path)
    values = pixel_values(paths, 28, resize)
    assert values.dtype == torch.float32
    assert llava.count_views(paths, 28, resize) == len(values)


def test_a_file_that_is_no_whole_picture_is_named(tmp_path: Path):
    path = tmp_path / "a.png"
    assert refusal(DataError, lambda: pixel_values([path], 28, "squash")) == f"{path}: no such picture; run the stage that renders it again"
    path.write_bytes(b"text")
    assert refusal(DataError, lambda: pixel_values([path], 28, "squash")).startswith(f"{path}: not a whole picture (")
    picture(40, 40).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal(DataError, lambda: pixel_values([path], 28, "squash")).startswith(f"{path}: not a whole picture (")


# --- two pictures per conversation through the model ---


def test_the_views_fill_the_image_places_in_their_order(bundle: Llava):
    image, tokens = bundle.tokenizer.image_token_id, bundle.image_tokens
    pixels = torch.from_numpy(prepare([picture(30, 30, seed) for seed in (1, 2)], 28, "squash"))
    ids = torch.tensor([[1, 50, *[image] * 2 * tokens, 60, 61]])
    seen = {}
    hook = bundle.model.model.language_model.register_forward_pre_hook(
        lambda module, arguments, given: seen.update(given), with_kwargs=True
    )
    with torch.inference_mode():
        bundle.model(input_ids=ids, pixel_values=pixels)
        features = bundle.model.get_image_features(pixels, return_dict=True).pooler_output
        words = bundle.model.get_input_embeddings()(ids)[0]
    hook.remove()
    given = seen["inputs_embeds"][0]
    assert torch.allclose(given[2 : 2 + 2 * tokens], torch.cat(list(features)), atol=1e-6)
    assert torch.equal(given[[0, 1, -2, -1]], words[[0, 1, -2, -1]])


def test_places_and_views_that_do_not_match_are_refused_by_the_model(bundle: Llava):
    ids = torch.tensor([[1, *[bundle.tokenizer.image_token_id] * bundle.image_tokens, 60]])
    pixels = torch.from_numpy(prepare([picture(30, 30)] * 2, 28, "squash"))
    with pytest.raises(ValueError, match="Image features and image tokens do not match"):
        bundle.model(input_ids=ids, pixel_values=pixels)
