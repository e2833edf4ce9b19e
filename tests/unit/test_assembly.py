"""A LLaVA put together from Vicuna, CLIP and a projector: every tensor and id as published, the whole as transformers computes it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from lib import checkpoints, llava
from lib.assembly import assemble
from lib.errors import ConfigError, KitError, MissingInput, WeightsError
from tests.tiny_llava import TEXT, VISION
from tests.tiny_parts import LANGUAGE_CONFIG, VOCABULARY, build_model, language_state, write_language, write_parts


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    return build_model()


@pytest.fixture
def parts(model: LlavaForConditionalGeneration, tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_parts(tmp_path, model)


@pytest.fixture(scope="module")
def assembled(model: LlavaForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    assemble(*write_parts(folder, model), folder / "llava")
    return folder / "llava"


def refusal(kind: type[KitError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_the_parts_become_a_model_that_computes_what_they_are(model: LlavaForConditionalGeneration, assembled: Path):
    bundle = llava.load(assembled, dtype="fp32", quantize="none")
    loaded, expected = bundle.model.state_dict(), model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    ids = torch.tensor([[1, *[bundle.tokenizer.image_token_id] * bundle.image_tokens, 300, 9, 257]])
    picture = torch.randn((1, 3, 28, 28), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(bundle.model(ids, picture).logits, model(ids, picture).logits)


def test_on_text_the_model_is_the_language_model(model: LlavaForConditionalGeneration, assembled: Path):
    alone = LlamaForCausalLM(model.config.text_config).eval()
    alone.load_state_dict({name: value for name, value in language_state(model).items() if "inv_freq" not in name})
    bundle = llava.load(assembled, dtype="fp32", quantize="none")
    ids = torch.arange(VOCABULARY).view(1, -1)
    with torch.inference_mode():
        assert torch.equal(bundle.model(ids).logits, alone(ids).logits)


def test_the_config_is_that_of_the_kits_own_models(assembled: Path):
    config = LlavaConfig.from_pretrained(assembled)
    text = {**TEXT, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    expected = llava.configure({"vision": VISION, "text": text}, 258)
    for name in ("image_token_index", "image_seq_length", "vision_feature_layer", "vision_feature_select_strategy", "projector_hidden_act"):
        assert getattr(config, name) == getattr(expected, name)
    for part in ("text_config", "vision_config"):
        ours, theirs = (getattr(one, part).to_dict() for one in (config, expected))
        assert {name: value for name, value in ours.items() if value != theirs[name]} == {}
    assert config.dtype == torch.float16


def test_types_stay_as_they_are_published(model: LlavaForConditionalGeneration, parts: tuple[Path, Path, Path], tmp_path: Path):
    language, tower, projector = parts
    write_language(language, {name: value.half() for name, value in language_state(model).items()})
    assemble(language, tower, projector, tmp_path / "llava")
    files = sorted((tmp_path / "llava").glob("*.safetensors"))
    types = {name: value.dtype for path in files for name, value in load_file(path).items()}
    assert {types[name] for name in types if name.startswith("language_model.")} == {torch.float16}
    assert {types[name] for name in types if not name.startswith("language_model.")} == {torch.float32}
    assert len(files) == 4  # as many as the parts have


@pytest.mark.parametrize("text", ["The vehicle  in the box.\nUSER: Where?", "漢 é 😀 \x00", "<image>"])
def test_text_is_tokenized_as_by_the_published_vocabulary(assembled: Path, text: str):
    bundle = llava.load(assembled, dtype="fp32", quantize="none")
    pieces = sentencepiece.SentencePieceProcessor(str(assembled.parent / "vicuna/tokenizer.model"))
    assert bundle.tokenizer(text)["input_ids"] == [1, *pieces.encode(text)]
    assert 258 not in pieces.encode(text)


def test_the_tokenizer_names_its_marks(assembled: Path):
    tokenizer = llava.load(assembled, dtype="fp32", quantize="none").tokenizer
    assert (tokenizer.image_token, tokenizer.image_token_id, len(tokenizer)) == ("<0xFF>", 258, VOCABULARY)
    assert (tokenizer.bos_token_id, tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.pad_token) == (1, "</s>", 2, "<unk>")
    # legacy tokenizers put a blank behind </s>
    assert tokenizer("</s>the", add_special_tokens=False)["input_ids"] == [2, *tokenizer.convert_tokens_to_ids(["the"])]
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("right", 4096)


def test_it_can_be_saved_again_and_go_to_the_original_layout(assembled: Path, model: LlavaForConditionalGeneration, tmp_path: Path):
    bundle = llava.load(assembled, dtype="fp32", quantize="none")
    assert bundle.model.generation_config.eos_token_id == 2
    llava.save(bundle, tmp_path / "saved")
    fields = {
        "mm_vision_tower": "openai/small-clip", "image_aspect_ratio": "pad", "mm_patch_merge_type": "flat",
        "tokenizer_model_max_length": 2048, "tokenizer_padding_side": "right",
    }  # fmt: skip
    checkpoints.to_original(assembled, tmp_path / "original", fields=fields)
    state = {name: value for path in (tmp_path / "original").glob("*.safetensors") for name, value in load_file(path).items()}
    expected = {name: value for name, value in language_state(model).items() if "inv_freq" not in name}
    assert all(torch.equal(state[name], value) for name, value in expected.items())


# --- refusals ---


def test_a_part_with_other_tensors_is_refused_by_its_own_names(
    model: LlavaForConditionalGeneration, parts: tuple[Path, Path, Path], tmp_path: Path
):
    language, _, projector = parts
    whole = torch.load(projector, weights_only=True)
    torch.save({**{name: whole[name] for name in list(whole)[1:]}, "model.mm_projector.4.bias": torch.ones(32)}, projector)
    assert refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava")) == (
        f"{projector}: not the tensors that the config describes; 1 missing: model.mm_projector.0.weight; "
        "1 unexpected: model.mm_projector.4.bias; copy it again, or name the one that fits"
    )
    state = language_state(model)
    state["model.embed_tokens.weight"] = state["model.embed_tokens.weight"][:-1].clone()
    del state["model.norm.weight"]
    write_language(language, state)
    assert refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava")) == (
        f"{language}: not the tensors that the config describes; 1 missing: model.norm.weight; "
        "1 of another shape: model.embed_tokens.weight (339, 32) for (340, 32); copy it again, or name the one that fits"
    )
    assert not (tmp_path / "llava").exists()


def test_a_tower_of_another_size_is_refused(parts: tuple[Path, Path, Path], tmp_path: Path):
    config = json.loads((parts[1] / "config.json").read_text())
    (parts[1] / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    message = refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava"))
    assert message.startswith(f"{parts[1]}: not the tensors that the config describes; 16 unexpected: vision_model.encoder.layers.2.")


def test_another_language_model_is_refused(parts: tuple[Path, Path, Path], tmp_path: Path):
    language = parts[0]
    (language / "config.json").write_text(json.dumps({**LANGUAGE_CONFIG, "model_type": "llava_llama"}))
    assert refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava")) == (
        f"{language}: a model of type 'llava_llama', expected 'llama'; name the folder of Vicuna"
    )


def test_a_vocabulary_without_its_bytes_is_refused(parts: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.assembly.VICUNA_IMAGE_TOKEN", 257)
    assert refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava")) == (
        f"{parts[0]}: its token for pictures would be '<0xFE>', expected '<0xFF>' with the id 257; name the folder of Vicuna"
    )


def test_what_is_not_there_is_named_and_what_is_there_is_kept(parts: tuple[Path, Path, Path], tmp_path: Path):
    language, tower, projector = parts
    assert refusal(ConfigError, lambda: assemble(*parts, tmp_path)) == (
        f"{tmp_path}: exists already; remove it, or name a folder that does not exist"
    )
    projector.unlink()
    assert refusal(MissingInput, lambda: assemble(*parts, tmp_path / "llava")).startswith(f"{projector}: no such ")
    (language / "tokenizer.model").unlink()
    assert refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava")) == (
        f"{language}: a tokenizer of 3 tokens, without </s> or the id 258; copy its files again"
    )
    (language / "tokenizer_config.json").write_text("{")
    assert refusal(WeightsError, lambda: assemble(*parts, tmp_path / "llava")).startswith(f"{language}: no tokenizer that can be read (")
    assert refusal(MissingInput, lambda: assemble(tmp_path, tower, projector, tmp_path / "llava")).startswith(f"{tmp_path}: no config.json")
