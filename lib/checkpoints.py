"""LLaVA checkpoints as their authors publish them <-> the layout of Hugging Face's `LlavaForConditionalGeneration`, and back.

The original code keeps everything of LLaVA inside a LLaMA: one flat config with `mm_*` fields, weights named `model.layers.*`,
`model.mm_projector.*` and `model.vision_tower.vision_tower.*`, as safetensors or pickles. Tensors are renamed, never computed with, and
every name and shape is checked against the model class before anything is written.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from lib import files, shards
from lib.errors import ConfigError, MissingInput, WeightsError
from lib.llava import CLIP_L_336, read_published_tokenizer
from lib.shards import Chunk, Shard, Stored

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

# Beginnings of names, first match wins: original -> Hugging Face as published checkpoints spell it, which every version reads.
ORIGINAL_NAMES = {
    "model.vision_tower.vision_tower.": "vision_tower.",
    "model.mm_projector.0.": "multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "multi_modal_projector.linear_2.",
    "lm_head.": "language_model.lm_head.",
    "model.": "language_model.model.",
}
# The same for the spellings of the model in memory and of what transformers 5 writes.
OTHER_SPELLINGS = {
    "lm_head.": "language_model.lm_head.",
    "model.language_model.": "language_model.model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "model.vision_tower.vision_model.": "vision_tower.vision_model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "vision_tower.vision_model.": "vision_tower.vision_model.",
    "vision_tower.": "vision_tower.vision_model.",
}
TOWER, PROJECTOR = "vision_tower.vision_model.", "multi_modal_projector."
PROJECTOR_FILE = "mm_projector.bin"  # of LLaVA's first stage: nothing but the projector
# Written by older versions, computed by the model class itself.
BUFFER = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")
# LLaVA-1.6 puts it between rows of image tiles; without tiles, as here, no model class has a place for it.
WITHOUT_PLACE = "model.image_newline"

MODEL_TYPES = ("llava", "llava_llama")
KEPT_CONFIG = "original_layout"  # entry of the Hugging Face config that holds the original one, for the way back
TEXT_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "max_position_embeddings", "initializer_range", "rms_norm_eps", "attention_bias", "attention_dropout", "tie_word_embeddings",
    "pretraining_tp", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
NEEDED = ("hidden_size", "num_hidden_layers", "vocab_size", "mm_vision_tower", "mm_vision_select_layer", "mm_projector_type")
FEATURES = {"patch": "default", "cls_patch": "full"}  # mm_vision_select_feature -> vision_feature_select_strategy
# Fields that Hugging Face has no place for and the original code needs.
FIELDS_OF_THE_ORIGINAL = (
    "mm_vision_tower", "image_aspect_ratio", "mm_patch_merge_type", "tokenizer_model_max_length", "tokenizer_padding_side",
)  # fmt: skip
CLIP_L_336_NAME = "clip-vit-large-patch14-336"


def is_original_layout(folder: Path) -> bool:
    """Whether the checkpoint is one of the original LLaVA code; raises MissingInput if the folder has no config.json."""
    config = shards.read_config(folder)
    return config.get("model_type") in MODEL_TYPES and "text_config" not in config


def to_hugging_face(source: Path, target: Path, *, image_token: int, clip: Path | None) -> None:
    """Write a checkpoint of the original layout into the folder `target` in Hugging Face layout; other files are copied.

    `image_token` is the id, below the vocabulary's size, that stands for a place of the image in prompts. `clip` is a folder of the CLIP
    model that `mm_vision_tower` names: its config is the tower's, and so are its weights where the checkpoint itself holds none. Raises
    WeightsError that lists missing and unexpected tensors, MissingInput if the CLIP folder is needed, ConfigError.
    """
    if not is_original_layout(source):
        raise WeightsError(f"{source}: not a LLaVA of the original layout (model_type llava or llava_llama without text_config)")
    original, weights = shards.read_config(source), read_weights(source)
    config = hugging_face_config(source, original, tower_config(original, clip), image_token)
    unused = {name: stored for shard in weights for name, stored in shard.items() if name == WITHOUT_PLACE}
    weights = [{name: stored for name, stored in shard.items() if name not in unused} for shard in weights]
    if not any(name.startswith("model.vision_tower.") for shard in weights for name in shard):
        weights += tower_weights(source, original, clip)
    fitted = _fit(source, weights, config, from_original, to_original_name)
    with shards.unfinished(target) as folder:
        shards.write_shards(folder, fitted)
        if unused:
            shards.write_shard(folder / shards.UNUSED, unused)
        shards.copy_other_files(source, folder)
        files.write_json(folder / shards.CONFIG, config)


def adopt(source: Path, target: Path, *, clip: Path | None, **marks: object) -> None:
    """Make a checkpoint of the original layout one that `lib.llava` loads: weights by `to_hugging_face`, and the tokenizer beside them.

    `marks` are `image_token`, `end` and what else `llava.read_published_tokenizer` takes; without them those of LLaVA-1.6-34B.
    """
    tokenizer = read_published_tokenizer(source, **marks)
    if not target.is_dir():
        to_hugging_face(source, target, image_token=tokenizer.image_token_id, clip=clip)
    tokenizer.save_pretrained(target)


def to_original(source: Path, target: Path, *, fields: Mapping[str, object]) -> None:
    """Write a checkpoint of Hugging Face layout, in any of its spellings, into the folder `target` in the original layout.

    `fields` are config entries of the original code that Hugging Face has no place for; they go over those kept by `to_hugging_face`.
    Raises WeightsError that lists missing and unexpected tensors, ConfigError that lists the fields that are not known.
    """
    config = shards.read_config(source)
    if "text_config" not in config or config.get("model_type") != "llava":
        raise WeightsError(f"{source}: not a LLaVA of Hugging Face layout (model_type llava with text_config)")
    original = original_config(config, fields)
    fitted = _fit(source, shards.read_shards(source), config, from_hugging_face, str)
    renamed = [{to_original_name(name): stored for name, stored in shard.items()} for shard in fitted]
    if (source / shards.UNUSED).is_file():
        renamed[-1] |= shards.read_shard(source / shards.UNUSED)
    with shards.unfinished(target) as folder:
        shards.write_shards(folder, renamed)
        shards.copy_other_files(source, folder)
        (folder / shards.UNUSED).unlink(missing_ok=True)  # has its place again
        files.write_json(folder / shards.CONFIG, original)


def from_original(name: str) -> str:
    """A tensor's name in the original layout -> in Hugging Face layout."""
    return from_hugging_face(_renamed(name, ORIGINAL_NAMES))


def from_hugging_face(name: str) -> str:
    """A tensor's name in any spelling of the Hugging Face layout -> in the one that published checkpoints have."""
    return _renamed(name, OTHER_SPELLINGS)


def to_original_name(name: str) -> str:
    """A tensor's name in Hugging Face layout, as published checkpoints spell it -> in the original layout."""
    return _renamed(name, {new: old for old, new in ORIGINAL_NAMES.items()})


def _renamed(name: str, beginnings: Mapping[str, str]) -> str:
    old = next((beginning for beginning in beginnings if name.startswith(beginning)), None)
    return name if old is None else beginnings[old] + name.removeprefix(old)


def _fit(
    source: Path, weights: list[Shard], config: dict, rename: Callable[[str], str], spell: Callable[[str], str]
) -> list[dict[str, Stored]]:
    """The shards with Hugging Face names, which are exactly the model's. `spell` gives a missing name as the source would have it."""
    known = [{name: stored for name, stored in shard.items() if not BUFFER.search(name)} for shard in weights]
    held = {name: stored.shape for shard in known for name, stored in shard.items()}
    spelled = {rename(name): name for name in held}
    listed = shards.list_misfits(held, {spelled.get(name, spell(name)): shape for name, shape in model_shapes(config).items()})
    if listed:
        raise WeightsError(f"{source}: the tensors are not those of its config.json; {'; '.join(listed)}; copy the checkpoint again")
    return [{rename(name): stored for name, stored in shard.items()} for shard in known]


def model_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Name, as published checkpoints spell it, and shape of every tensor of the model that the config describes; nothing is allocated."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig.from_dict(config))
    return {from_hugging_face(name): tuple(value.shape) for name, value in model.state_dict().items()}


def read_weights(folder: Path) -> list[dict[str, Stored]]:
    """The tensors of each shard by name: safetensors, else pickles (only tensors; code in them is refused, not run)."""
    if any((folder / name).is_file() for name in (shards.SINGLE, shards.INDEX)):
        return shards.read_shards(folder)
    if (folder / PICKLE).is_file():
        return [read_pickle(folder / PICKLE)]
    if (folder / PICKLE_INDEX).is_file():
        return shards.gather_shards(folder / PICKLE_INDEX, read_pickle)
    expected = f"{shards.SINGLE}, {PICKLE} nor an index of shards"
    raise MissingInput(f"{folder}: no weights in it, neither {expected}; name the folder of a checkpoint")


def read_pickle(path: Path) -> dict[str, Stored]:
    """The tensors of a file of `torch.save`; the file is mapped, so only what is read takes memory."""
    if not path.is_file():
        raise MissingInput(f"{path}: no such shard; copy or download the checkpoint again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors and plain values, which may be code; refused, nothing of it was run"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, cut off or of a torch older than 1.6; copy or download it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) and value.dtype in DTYPES for value in state.values()):
        raise WeightsError(f"{path}: no weights in it; expected tensors by name")
    return {name: _stored(value.detach()) for name, value in state.items()}


def write_projector(state: Mapping[str, Tensor], path: Path) -> None:
    """Write the projector of a model's state (Hugging Face names) into a file as LLaVA's first stage leaves it."""
    spelt = {from_hugging_face(name): value for name, value in state.items()}
    content = io.BytesIO()
    torch.save(
        {to_original_name(name): value.detach().cpu().clone() for name, value in spelt.items() if name.startswith(PROJECTOR)}, content
    )
    files.write_bytes(path, content.getvalue())


def _stored(tensor: Tensor) -> Stored:
    def chunks() -> Iterator[Chunk]:
        yield tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data

    return Stored(DTYPES[tensor.dtype], tuple(tensor.shape), tensor.numel() * tensor.element_size(), chunks)


def tower_config(original: Mapping, clip: Path | None) -> dict:
    """The vision tower's config: that of the CLIP folder, else CLIP-L/336's if `mm_vision_tower` names it."""
    if clip is not None:
        config = shards.read_config(clip)
        config = config.get("vision_config", config)
        known = CLIPVisionConfig().to_dict().keys()
        return {name: value for name, value in config.items() if name in known}
    name = str(original.get("mm_vision_tower"))
    if Path(name).name == CLIP_L_336_NAME:
        return dict(CLIP_L_336)
    raise MissingInput(f"the vision tower is {name!r}, whose config the kit does not know; name the folder of that CLIP model")


def tower_weights(source: Path, original: Mapping, clip: Path | None) -> list[dict[str, Stored]]:
    """The vision tower of a CLIP folder, of a whole CLIP or of its vision half, under Hugging Face names."""
    if clip is None:
        raise MissingInput(
            f"{source}: holds no vision tower, only its name {original.get('mm_vision_tower')!r}; name the folder of that CLIP model"
        )
    weights = read_weights(clip)
    begin = "vision_model." if any(name.startswith("vision_model.") for shard in weights for name in shard) else ""
    return [{TOWER + name.removeprefix(begin): stored for name, stored in shard.items() if name.startswith(begin)} for shard in weights]


def hugging_face_config(source: Path, original: Mapping, tower: Mapping, image_token: int) -> dict:
    """The config.json of Hugging Face layout; the original one is kept in it. Raises WeightsError for what the class cannot do."""
    absent = [name for name in NEEDED if name not in original]
    if absent:
        raise WeightsError(f"{source}: config.json has no {', '.join(absent)}; copy the checkpoint's own config.json")
    if original["mm_projector_type"] != "mlp2x_gelu":
        raise WeightsError(f"{source}: mm_projector_type is {original['mm_projector_type']!r}; Hugging Face's class has mlp2x_gelu only")
    for name in ("mm_use_im_start_end", "mm_use_im_patch_token"):
        if original.get(name):
            raise WeightsError(f"{source}: {name} is set, which adds tokens that the kit's prompts do not have; only false is known")
    feature = original.get("mm_vision_select_feature", "patch")
    if feature not in FEATURES:
        raise WeightsError(f"{source}: mm_vision_select_feature is {feature!r}; it is one of: {', '.join(FEATURES)}")
    if not 0 <= image_token < original["vocab_size"]:
        raise ConfigError(f"image token {image_token} is not in the vocabulary; it is an id from 0 to {original['vocab_size'] - 1}")
    text = {name: original[name] for name in (*TEXT_FIELDS, "rope_theta") if name in original}
    if original.get("rope_scaling"):
        text["rope_scaling"] = dict(original["rope_scaling"])
    vision = {**tower, "model_type": "clip_vision_model"}
    config = LlavaConfig(
        text_config={**text, "model_type": "llama"},
        vision_config=vision,
        image_token_index=image_token,
        image_seq_length=(vision["image_size"] // vision["patch_size"]) ** 2 + (feature == "cls_patch"),
        projector_hidden_act="gelu",
        vision_feature_layer=original["mm_vision_select_layer"],
        vision_feature_select_strategy=FEATURES[feature],
        architectures=["LlavaForConditionalGeneration"],
        dtype=original.get("torch_dtype"),
    )
    return {**config.to_dict(), KEPT_CONFIG: dict(original)}


def original_config(config: Mapping, fields: Mapping[str, object]) -> dict:
    """The original layout's config.json of a Hugging Face one: what was kept, under what the model is now, under `fields`."""
    text, rope = config["text_config"], config["text_config"].get("rope_parameters", {})
    kept = {"model_type": "llava_llama", "unfreeze_mm_vision_tower": True, "use_mm_proj": True, **config.get(KEPT_CONFIG, {})}
    scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
    features = {strategy: feature for feature, strategy in FEATURES.items()}
    present = {
        "architectures": ["LlavaLlamaForCausalLM"],
        **{name: text[name] for name in TEXT_FIELDS if name in text},
        "rope_theta": rope.get("rope_theta"),
        "rope_scaling": None if rope.get("rope_type") == "default" else scaling,
        "torch_dtype": config.get("dtype"),
        "mm_hidden_size": config["vision_config"]["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": config["vision_feature_layer"],
        "mm_vision_select_feature": features[config["vision_feature_select_strategy"]],
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
    }
    original = {**kept, **present, **fields}
    absent = [name for name in FIELDS_OF_THE_ORIGINAL if name not in original]
    if absent:
        raise ConfigError(f"the original code needs {', '.join(absent)}, which this checkpoint does not say; give them as fields")
    return original
