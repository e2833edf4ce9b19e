"""The original LLaVA layout to Hugging Face's and back: same tensors, same logits, nothing missing or surplus without an error."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from lib import blocks, checkpoints, shards
from lib.errors import ConfigError, MissingInput, WeightsError

State = dict[str, torch.Tensor]
TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
# Fields and values as the released 34B checkpoint has them, of a small size.
ORIGINAL = {
    "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48,
    "initializer_range": 0.02, "max_position_embeddings": 64, "num_attention_heads": 4, "num_hidden_layers": 4,
    "num_key_value_heads": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 5000000.0,
    "tie_word_embeddings": False, "use_cache": True, "vocab_size": 60, "torch_dtype": "float32", "transformers_version": "4.37.0",
    "image_aspect_ratio": "anyres", "image_grid_pinpoints": [[28, 56], [56, 28]], "mm_hidden_size": 16, "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu", "mm_use_im_patch_token": False, "mm_use_im_start_end": False, "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2, "mm_vision_tower": "openai/small-clip", "tokenizer_model_max_length": 64,
    "tokenizer_padding_side": "right", "unfreeze_mm_vision_tower": True, "use_mm_proj": True,
}  # fmt: skip
IMAGE_TOKEN = 59


def tiny_model() -> LlavaForConditionalGeneration:
    """The model that the tiny checkpoints hold, built without the code under test."""
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, vocab_size=60,
        rms_norm_eps=1e-5, rope_theta=5e6, max_position_embeddings=64, bos_token_id=1, eos_token_id=7, pad_token_id=0,
        initializer_range=0.2,
    )  # fmt: skip
    vision = CLIPVisionConfig(**TOWER, initializer_factor=5.0)
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=IMAGE_TOKEN, image_seq_length=4)
    )


def original_state(model: LlavaForConditionalGeneration) -> State:
    """The model's tensors under the names of the original code, with the tensor of LLaVA-1.6 that has no place in the model."""
    state = {"model.image_newline": torch.arange(32.0)}
    state |= {f"model.{name}": value for name, value in model.model.language_model.state_dict().items()}
    state["lm_head.weight"] = model.lm_head.weight.detach()
    projector = model.model.multi_modal_projector
    for number, layer in ((0, projector.linear_1), (2, projector.linear_2)):
        state |= {f"model.mm_projector.{number}.{name}": value for name, value in layer.state_dict().items()}
    tower = model.model.vision_tower.state_dict()
    return state | {f"model.vision_tower.vision_tower.vision_model.{name}": value for name, value in tower.items()}


def write_original(folder: Path, state: State, *, config: dict = ORIGINAL) -> Path:
    """A checkpoint of the original layout: two safetensors shards with an index, config, tokenizer."""
    folder.mkdir()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for filename, part in parts.items():
        save_file({name: state[name] for name in part}, folder / filename, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: filename for filename, part in parts.items() for name in part}}
    (folder / shards.INDEX).write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes(b"pieces")
    return folder


def write_pickled(folder: Path, state: State, *, sharded: bool) -> Path:
    """The same as `torch.save` wrote it: one pytorch_model.bin, or two shards with an index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ORIGINAL))
    names = list(state)
    parts = {"pytorch_model-1.bin": names[:20], "pytorch_model-2.bin": names[20:]} if sharded else {"pytorch_model.bin": names}
    for filename, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / filename)
    if sharded:
        listed = {name: filename for filename, part in parts.items() for name in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    return folder


def write_clip(folder: Path, model: LlavaForConditionalGeneration, *, whole: bool) -> Path:
    """The tower as a folder of its own: a whole CLIP model, or its vision half."""
    half = CLIPVisionModel(CLIPVisionConfig(**TOWER))
    half.load_state_dict(model.model.vision_tower.state_dict())
    if not whole:
        half.save_pretrained(folder)
        return folder
    text = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    clip = CLIPModel(CLIPConfig(vision_config=TOWER, text_config=text))
    clip.vision_model.load_state_dict(half.state_dict())
    clip.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    return tiny_model().eval()


@pytest.fixture(scope="module")
def clip(model, tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip", model, whole=True)


def tensors(folder: Path) -> State:
    """Every tensor of the checkpoint, by the index if there is one."""
    paths = sorted(folder.glob("model*.safetensors"))
    return {name: value for path in paths for name, value in load_file(path).items()}


def assert_same_state(left: State, right: State) -> None:
    assert left.keys() == right.keys()
    assert not [name for name in left if left[name].dtype != right[name].dtype or not left[name].equal(right[name])]


def assert_loads_as(folder: Path, model: LlavaForConditionalGeneration) -> None:
    """transformers finds every tensor it wants and no other, and they are those of the model."""
    loaded, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert_same_state(loaded.state_dict(), model.state_dict())
    ids = torch.tensor([[IMAGE_TOKEN] * 4 + [1, 5, 9]])
    picture = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert loaded(input_ids=ids, pixel_values=picture).logits.equal(model(input_ids=ids, pixel_values=picture).logits)


# --- to Hugging Face ---


def test_a_released_checkpoint_becomes_one_that_transformers_loads(tmp_path, model, clip):
    source, target = write_original(tmp_path / "original", original_state(model)), tmp_path / "hf"
    assert checkpoints.is_original_layout(source)
    checkpoints.to_hugging_face(source, target, image_token=IMAGE_TOKEN, clip=clip)
    assert not checkpoints.is_original_layout(target)
    assert_loads_as(target, model)
    assert (target / "tokenizer.model").read_bytes() == b"pieces"
    config = LlavaConfig.from_pretrained(target)
    assert (config.vision_feature_layer, config.vision_feature_select_strategy, config.projector_hidden_act) == (-2, "default", "gelu")
    assert (config.image_token_index, config.image_seq_length) == (IMAGE_TOKEN, 4)
    assert config.text_config.rope_parameters["rope_theta"] == 5e6
    assert (config.text_config.eos_token_id, config.text_config.rms_norm_eps) == (7, 1e-5)
    assert {name: getattr(config.vision_config, name) for name in TOWER} == TOWER


@pytest.mark.parametrize("sharded", [False, True])
def test_pickled_weights_are_read_too_and_old_buffers_left_out(tmp_path, model, clip, sharded):
    state = original_state(model) | {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.vision_tower.vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    # The expanded checkpoint of the published script holds tensors that share their bytes.
    state["model.layers.1.mlp.up_proj.weight"] = state["model.layers.0.mlp.up_proj.weight"]
    source = write_pickled(tmp_path / "original", state, sharded=sharded)
    checkpoints.to_hugging_face(source, tmp_path / "hf", image_token=IMAGE_TOKEN, clip=clip)
    result = tensors(tmp_path / "hf")
    layer = "language_model.model.layers.{}.mlp.up_proj.weight".format
    assert result[layer(1)].equal(result[layer(0)]) and result[layer(0)].equal(state["model.layers.0.mlp.up_proj.weight"])
    assert len(result) == len(state) - 3


@pytest.mark.parametrize("whole", [False, True])
def test_a_tower_that_is_only_named_comes_from_the_clip_folder(tmp_path, model, whole):
    state = {name: value for name, value in original_state(model).items() if "vision_tower" not in name}
    source = write_original(tmp_path / "original", state)
    checkpoints.to_hugging_face(source, tmp_path / "hf", image_token=IMAGE_TOKEN, clip=write_clip(tmp_path / "clip", model, whole=whole))
    assert_loads_as(tmp_path / "hf", model)


def test_the_towers_own_weights_win_over_the_clip_folder(tmp_path, model):
    other = tiny_model()
    for value in other.parameters():
        value.data.zero_()
    source = write_original(tmp_path / "original", original_state(model))
    checkpoints.to_hugging_face(source, tmp_path / "hf", image_token=IMAGE_TOKEN, clip=write_clip(tmp_path / "clip", other, whole=False))
    assert_loads_as(tmp_path / "hf", model)


def test_half_precision_stays_half_precision(tmp_path, model, clip):
    state = {name: value.to(torch.bfloat16) for name, value in original_state(model).items()}
    source = write_original(tmp_path / "original", state, config=ORIGINAL | {"torch_dtype": "bfloat16"})
    checkpoints.to_hugging_face(source, tmp_path / "hf", image_token=IMAGE_TOKEN, clip=clip)
    assert {value.dtype for value in tensors(tmp_path / "hf").values()} == {torch.bfloat16}
    assert LlavaConfig.from_pretrained(tmp_path / "hf").dtype == torch.bfloat16


def test_the_published_tower_needs_no_folder_for_its_config():
    tower = checkpoints.tower_config({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, None)
    assert (tower["hidden_size"], tower["num_hidden_layers"], tower["image_size"], tower["patch_size"]) == (1024, 24, 336, 14)


# --- and back ---


def test_there_and_back_gives_the_same_checkpoint(tmp_path, model, clip):
    state = original_state(model)
    source = write_original(tmp_path / "original", state)
    checkpoints.to_hugging_face(source, tmp_path / "hf", image_token=IMAGE_TOKEN, clip=clip)
    checkpoints.to_original(tmp_path / "hf", tmp_path / "back", fields={})
    assert_same_state(tensors(tmp_path / "back"), state)
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == ORIGINAL
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == sorted(path.name for path in source.iterdir())


def test_an_expanded_model_goes_back_with_its_new_blocks(tmp_path, model, clip):
    checkpoints.to_hugging_face(
        write_original(tmp_path / "original", original_state(model)), tmp_path / "hf", image_token=IMAGE_TOKEN, clip=clip
    )
    blocks.expand_checkpoint(tmp_path / "hf", tmp_path / "more", blocks.plan_expansion(4, 2), quirk="corrected")
    fields = {"image_aspect_ratio": "bigsmall", "mm_patch_merge_type": "flat"}
    checkpoints.to_original(tmp_path / "more", tmp_path / "back", fields=fields)
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == ORIGINAL | fields | {"num_hidden_layers": 6}
    state = tensors(tmp_path / "back")
    assert len(state) == len(original_state(model)) + 2 * 9
    assert not state["model.layers.5.self_attn.o_proj.weight"].any()


def test_the_original_layout_can_be_expanded_as_it_is(tmp_path, model, clip):
    source, expansion = write_original(tmp_path / "original", original_state(model)), blocks.plan_expansion(4, 2)
    blocks.expand_checkpoint(source, tmp_path / "more", expansion, quirk="corrected")
    assert blocks.prove_structure(source, tmp_path / "more", expansion).identical
    checkpoints.to_hugging_face(tmp_path / "more", tmp_path / "hf", image_token=IMAGE_TOKEN, clip=clip)
    checkpoints.to_hugging_face(source, tmp_path / "base", image_token=IMAGE_TOKEN, clip=clip)
    assert blocks.prove_identity(tmp_path / "base", tmp_path / "hf", positions=5, seed=0).max_difference == 0.0


FIELDS = {
    "mm_vision_tower": "openai/small-clip", "image_aspect_ratio": "bigsmall", "mm_patch_merge_type": "flat",
    "tokenizer_model_max_length": 64, "tokenizer_padding_side": "right",
}  # fmt: skip


def test_a_model_that_transformers_saved_goes_to_the_original_layout(tmp_path, model):
    model.save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    checkpoints.to_original(tmp_path / "hf", tmp_path / "original", fields=FIELDS)
    state = original_state(model)
    del state["model.image_newline"]
    assert_same_state(tensors(tmp_path / "original"), state)
    config = json.loads((tmp_path / "original" / "config.json").read_text())
    assert checkpoints.is_original_layout(tmp_path / "original")
    expected = {
        name: ORIGINAL[name] for name in ORIGINAL if name.startswith("mm_") or name in ("rope_theta", "rope_scaling", "eos_token_id")
    }
    assert {name: config[name] for name in expected | FIELDS} == expected | FIELDS
    checkpoints.to_hugging_face(
        tmp_path / "original", tmp_path / "again", image_token=IMAGE_TOKEN, clip=write_clip(tmp_path / "clip", model, whole=False)
    )
    assert_loads_as(tmp_path / "again", model)


def test_scaled_positions_go_both_ways():
    config = ORIGINAL | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    there = checkpoints.hugging_face_config(Path("x"), config, TOWER, IMAGE_TOKEN)
    assert there["text_config"]["rope_parameters"]["factor"] == 2.0
    back = checkpoints.original_config(there, {})
    assert back["rope_scaling"] == {"type": "linear", "rope_type": "linear", "factor": 2.0}
    assert back["rope_theta"] == 5e6


WORDS = st.lists(st.text("abcz_0123456789", min_size=1, max_size=4), min_size=1, max_size=4).map(".".join)
BEGINNINGS = st.sampled_from(
    ["model.layers.3.", "model.embed_tokens.", "lm_head.", "model.mm_projector.0.", "model.mm_projector.2.",
     "model.vision_tower.vision_tower.vision_model.encoder.layers.1."]
)  # fmt: skip


@given(BEGINNINGS, WORDS)
def test_names_go_there_and_back(beginning, rest):
    name = checkpoints.from_original(beginning + rest)
    assert checkpoints.to_original_name(name) == beginning + rest
    assert checkpoints.from_hugging_face(name) == name


@pytest.mark.parametrize("name", ["lm_head.weight", "language_model.lm_head.weight"])
def test_every_spelling_of_hugging_face_means_the_same(name):
    assert checkpoints.from_hugging_face(name) == "language_model.lm_head.weight"
    for tower in ("model.vision_tower.", "vision_tower.", "vision_tower.vision_model.", "model.vision_tower.vision_model."):
        assert checkpoints.from_hugging_face(f"{tower}encoder.x") == "vision_tower.vision_model.encoder.x"


# --- what is refused, with nothing written ---


def refused(source: Path, clip: Path | None, kind: type[Exception] = WeightsError, *, image_token: int = IMAGE_TOKEN) -> str:
    """The message of the error of `to_hugging_face`; nothing is left in the folder of the target."""
    with pytest.raises(kind) as error:
        checkpoints.to_hugging_face(source, source.parent / "hf", image_token=image_token, clip=clip)
    assert not [path for path in source.parent.iterdir() if "hf" in path.name]
    return str(error.value)


def test_missing_unexpected_and_misshapen_tensors_are_all_listed(tmp_path, model, clip):
    state = original_state(model)
    del state["model.norm.weight"], state["model.layers.2.mlp.up_proj.weight"]
    state["model.layers.4.mlp.up_proj.weight"] = torch.ones(1)
    state["model.mm_projector.4.bias"] = torch.ones(1)
    state["lm_head.weight"] = torch.ones(61, 32)
    source = write_original(tmp_path / "original", state)
    assert refused(source, clip) == (
        f"{source}: the tensors are not those of its config.json; "
        "2 missing: model.layers.2.mlp.up_proj.weight, model.norm.weight; "
        "2 unexpected: model.layers.4.mlp.up_proj.weight, model.mm_projector.4.bias; "
        "1 of another shape: lm_head.weight (61, 32) for (60, 32); copy the checkpoint again"
    )


def test_the_tower_that_the_published_script_scrambled_is_noticed(tmp_path, model, clip):
    state = original_state(model)
    layer = "model.vision_tower.vision_tower.vision_model.encoder.layers.{}.mlp.fc1.bias".format
    state[layer(3)] = state[layer(2)].clone()
    assert f"1 unexpected: {layer(3)};" in refused(write_original(tmp_path / "original", state), clip)


def test_back_from_hugging_face_the_tensors_are_checked_as_well(tmp_path, model):
    model.save_pretrained(tmp_path / "hf")
    state = load_file(tmp_path / "hf" / shards.SINGLE)
    del state["language_model.model.norm.weight"]
    save_file(state | {"surplus": torch.ones(1)}, tmp_path / "hf" / shards.SINGLE, metadata={"format": "pt"})
    with pytest.raises(WeightsError) as error:
        checkpoints.to_original(tmp_path / "hf", tmp_path / "original", fields=FIELDS)
    assert str(error.value) == (
        f"{tmp_path / 'hf'}: the tensors are not those of its config.json; 1 missing: language_model.model.norm.weight; "
        "1 unexpected: surplus; copy the checkpoint again"
    )
    assert not (tmp_path / "original").exists()


def test_fields_of_the_original_code_that_nobody_says_are_asked_for(tmp_path, model):
    model.save_pretrained(tmp_path / "hf")
    with pytest.raises(ConfigError) as error:
        checkpoints.to_original(tmp_path / "hf", tmp_path / "original", fields={"mm_vision_tower": "x", "image_aspect_ratio": "pad"})
    assert str(error.value) == (
        "the original code needs mm_patch_merge_type, tokenizer_model_max_length, tokenizer_padding_side, "
        "which this checkpoint does not say; give them as fields"
    )


def test_a_tower_without_weights_or_config_asks_for_the_clip_folder(tmp_path, model):
    source = write_original(tmp_path / "a", original_state(model))
    assert refused(source, None, MissingInput) == (
        "the vision tower is 'openai/small-clip', whose config the kit does not know; name the folder of that CLIP model"
    )
    state = {name: value for name, value in original_state(model).items() if "vision_tower" not in name}
    named = ORIGINAL | {"mm_vision_tower": "openai/clip-vit-large-patch14-336"}
    source = write_original(tmp_path / "b", state, config=named)
    assert refused(source, None, MissingInput) == (
        f"{source}: holds no vision tower, only its name 'openai/clip-vit-large-patch14-336'; name the folder of that CLIP model"
    )


REFUSED_CONFIGS = {
    "mm_projector_type": ("linear", "mm_projector_type is 'linear'; Hugging Face's class has mlp2x_gelu only"),
    "mm_use_im_start_end": (True, "mm_use_im_start_end is set, which adds tokens that the kit's prompts do not have; only false is known"),
    "mm_use_im_patch_token": (True, "mm_use_im_patch_token is set, which adds tokens that the kit's prompts do not have; only false is known"),
    "mm_vision_select_feature": ("cls", "mm_vision_select_feature is 'cls'; it is one of: patch, cls_patch"),
    "model_type": ("llava_mpt", "not a LLaVA of the original layout (model_type llava or llava_llama without text_config)"),
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED_CONFIGS)
def test_a_config_that_the_class_cannot_follow_is_refused(tmp_path, model, clip, field):
    value, message = REFUSED_CONFIGS[field]
    source = write_original(tmp_path / "original", original_state(model), config=ORIGINAL | {field: value})
    assert refused(source, clip) == f"{source}: {message}"


def test_a_config_without_its_llava_fields_is_refused(tmp_path, model, clip):
    config = {name: value for name, value in ORIGINAL.items() if name not in ("mm_projector_type", "mm_vision_tower")}
    source = write_original(tmp_path / "original", original_state(model), config=config)
    assert refused(source, clip) == (
        f"{source}: config.json has no mm_vision_tower, mm_projector_type; copy the checkpoint's own config.json"
    )


def test_an_image_token_outside_the_vocabulary_is_refused(tmp_path, model, clip):
    source = write_original(tmp_path / "original", original_state(model))
    message = refused(source, clip, ConfigError, image_token=60)
    assert message == "image token 60 is not in the vocabulary; it is an id from 0 to 59"


def test_a_checkpoint_of_another_layout_does_not_go_back(tmp_path, model):
    source = write_original(tmp_path / "original", original_state(model))
    with pytest.raises(WeightsError) as error:
        checkpoints.to_original(source, tmp_path / "back", fields={})
    assert str(error.value) == f"{source}: not a LLaVA of Hugging Face layout (model_type llava with text_config)"


class Evil:
    """Unpickled carelessly, this would run a program."""

    def __reduce__(self) -> tuple[Callable, tuple]:
        return subprocess.check_call, ([sys.executable, "-c", "open('was run', 'w')"],)


PICKLES = {
    "code": (lambda path: torch.save({"a": Evil()}, path), "holds more than tensors and plain values, which may be code; refused, nothing of it was run"),
    "damaged": (lambda path: path.write_bytes(b"PK\3\4 cut off"), "damaged, cut off or of a torch older than 1.6; copy or download it again"),
    "old": (lambda path: torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False),
            "damaged, cut off or of a torch older than 1.6; copy or download it again"),
    "no weights": (lambda path: torch.save([1, 2], path), "no weights in it; expected tensors by name"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_that_is_not_plain_weights_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, message = PICKLES[kind]
    path = tmp_path / "pytorch_model.bin"
    write(path)
    with pytest.raises(WeightsError) as error:
        checkpoints.read_weights(tmp_path)
    assert str(error.value) == f"{path}: {message}"
    assert not (tmp_path / "was run").exists()


def test_a_pickled_shard_that_is_not_there_is_named(tmp_path, model):
    source = write_pickled(tmp_path / "original", original_state(model), sharded=True)
    (source / "pytorch_model-2.bin").unlink()
    with pytest.raises(MissingInput) as error:
        checkpoints.read_weights(source)
    assert str(error.value) == f"{source / 'pytorch_model-2.bin'}: no such shard; copy or download the checkpoint again"


@pytest.mark.parametrize("sharded", [False, True])
def test_safetensors_are_taken_before_pickles(tmp_path, model, sharded):
    source = write_pickled(tmp_path / "original", original_state(model), sharded=sharded)
    save_file({"a": torch.ones(2)}, source / shards.SINGLE)
    assert [list(shard) for shard in checkpoints.read_weights(source)] == [["a"]]


def test_a_folder_without_weights_says_what_is_looked_for(tmp_path):
    with pytest.raises(MissingInput) as error:
        checkpoints.read_weights(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no weights in it, neither model.safetensors, pytorch_model.bin nor an index of shards; name the folder of a checkpoint"
    )
