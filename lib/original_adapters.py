"""Low-rank adapters as LLaVA's original code writes them <-> PEFT's format on Hugging Face's `LlavaForConditionalGeneration`, and back.

The original's folder holds the adapters in PEFT's format under the names of its own model class, the projector that trained beside them
as a pickle, and the whole model's config. On Hugging Face's class both lie in one file, and the config stays with the model. Tensors are
renamed, never computed with, and every name and shape is checked against the model's config before anything is written.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pydantic
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from lib import adapters, checkpoints, files, shards
from lib.adapters import Lora
from lib.errors import MissingInput, WeightsError
from lib.shards import Stored

ADAPTER_CONFIG, ADAPTER, PICKLED_ADAPTER = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PROJECTOR = "non_lora_trainables.bin"

# Beginnings of names: original -> as peft 0.21 names them on the class of transformers 5.
NAMES = {
    "base_model.model.model.layers.": "base_model.model.model.language_model.layers.",
    "base_model.model.model.mm_projector.0.": "base_model.model.model.multi_modal_projector.linear_1.",
    "base_model.model.model.mm_projector.2.": "base_model.model.model.multi_modal_projector.linear_2.",
}
# What shapes depend on, in the original's config.json.
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "mm_hidden_size")

# Entries of adapter_config.json that are translated, and those that say nothing about what the adapters compute.
TRANSLATED = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save")
IRRELEVANT = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type")

Shape = tuple[int, ...]


def is_original_adapter(folder: Path) -> bool:
    """Whether the adapter is one of the original code, which alone has a projector or a config of its own; raises MissingInput."""
    if not (folder / ADAPTER_CONFIG).is_file():
        raise MissingInput(f"{folder}: no {ADAPTER_CONFIG} in it; name the folder of an adapter")
    return any((folder / name).is_file() for name in (PROJECTOR, shards.CONFIG))


def to_peft(source: Path, target: Path) -> None:
    """Write an adapter of the original code into the folder `target` as `lib.adapters.save` does.

    Raises WeightsError that lists missing, unexpected and misshapen tensors, or for adapters that compute something else than the
    kit's; MissingInput for a file that is not there. Pickles are read as tensors only; code in them is refused, not run.
    """
    if not is_original_adapter(source):
        raise WeightsError(f"{source}: neither {PROJECTOR} nor {shards.CONFIG} in it, so not of the original code; PEFT loads it as it is")
    recipe = _read_recipe(source / ADAPTER_CONFIG, targets=sorted(adapters.LINEARS), saved=None)
    lora, projector = original_shapes(source, shards.read_config(source), recipe.r)
    file = next((source / name for name in (ADAPTER, PICKLED_ADAPTER) if (source / name).is_file()), None)
    if file is None:
        raise MissingInput(f"{source}: neither {ADAPTER} nor {PICKLED_ADAPTER} in it; copy the adapter's own files again")
    tensors: dict[str, Stored] = {}
    for path, wanted in ((file, lora), (source / PROJECTOR, projector)):
        held = shards.read_shard(path) if path.suffix == ".safetensors" else checkpoints.read_pickle(path)
        check_tensors(path, {name: stored.shape for name, stored in held.items()}, wanted)
        tensors |= {to_peft_name(name): stored for name, stored in held.items()}
    config = adapters.lora_config(recipe)
    config.inference_mode, config.base_model_name_or_path = True, ""
    with shards.unfinished(target) as folder:
        shards.write_shard(folder / ADAPTER, tensors)
        config.save_pretrained(folder)


def to_original(source: Path, target: Path, *, model: Path, fields: Mapping[str, object]) -> None:
    """Write an adapter that `lib.adapters.save` wrote into the folder `target` as the original code does and reads.

    `model` is the folder, in Hugging Face layout, of the model it was trained on: its config.json becomes the original's, and `fields`
    are the entries that Hugging Face has no place for (`checkpoints.to_original`). Raises WeightsError that lists missing, unexpected
    and misshapen tensors, MissingInput, ConfigError that lists the fields that are not known.
    """
    if is_original_adapter(source):
        raise WeightsError(f"{source}: {PROJECTOR} or {shards.CONFIG} in it, so of the original code already; use it as it is")
    base = shards.read_config(model)
    if base.get("model_type") != "llava" or "text_config" not in base:
        raise WeightsError(f"{model}: not a LLaVA of Hugging Face layout; name the model that the adapter was trained on")
    recipe = _read_recipe(source / ADAPTER_CONFIG, targets=adapters.TARGETS, saved=[adapters.PROJECTOR])
    # NOTE: with a tower that trains the original loads CLIP first, and its names of layers would give CLIP adapters too.
    config = checkpoints.original_config(base, {"unfreeze_mm_vision_tower": False, **fields})
    lora, projector = original_shapes(model, config, recipe.r)
    held = shards.read_shard(source / ADAPTER)
    wanted = {to_peft_name(name): shape for name, shape in (lora | projector).items()}
    check_tensors(source / ADAPTER, {name: stored.shape for name, stored in held.items()}, wanted)
    tensors = load_file(source / ADAPTER)
    with shards.unfinished(target) as folder:
        for filename, names in ((PICKLED_ADAPTER, lora), (PROJECTOR, projector)):
            with (folder / filename).open("wb") as stream:  # so that a full disk is an OSError
                torch.save({name: tensors[to_peft_name(name)] for name in names}, stream)
        files.write_json(folder / ADAPTER_CONFIG, _original_adapter_config(recipe))
        files.write_json(folder / shards.CONFIG, config)


def to_peft_name(name: str) -> str:
    """A tensor's name in the original's files -> in PEFT's file for Hugging Face's class."""
    old = next(beginning for beginning in NAMES if name.startswith(beginning))
    return NAMES[old] + name.removeprefix(old)


def original_shapes(place: Path, config: Mapping, rank: int) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Name, in the original's files, and shape of every tensor of the adapters and of the projector; nothing is allocated.

    `config` is the original's config.json, `place` where it comes from. Raises WeightsError if it does not say the sizes.
    """
    absent = [name for name in SIZES if name not in config]
    if absent:
        raise WeightsError(f"{place}: config.json has no {', '.join(absent)}; copy the adapter's own config.json")
    known = {name: config[name] for name in (*SIZES, "num_key_value_heads") if name in config}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**known, vocab_size=1))
    lora = {}
    for name, weight in model.named_parameters():
        if re.fullmatch(rf"{adapters.ADAPTED}\.weight", name):
            outputs, inputs = weight.shape
            layer = f"base_model.model.{name.removesuffix('.weight')}"
            lora |= {f"{layer}.lora_A.weight": (rank, inputs), f"{layer}.lora_B.weight": (outputs, rank)}
    projector = {}
    for number, inputs in ((0, config["mm_hidden_size"]), (2, config["hidden_size"])):
        layer = f"base_model.model.model.mm_projector.{number}"
        projector |= {f"{layer}.weight": (config["hidden_size"], inputs), f"{layer}.bias": (config["hidden_size"],)}
    return lora, projector


def check_tensors(place: Path, held: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> None:
    """Raise WeightsError that lists every tensor of `place` that is missing, unexpected or of another shape than wanted."""
    listed = shards.list_misfits(held, wanted)
    if listed:
        raise WeightsError(
            f"{place}: not the tensors that the config describes; {'; '.join(listed)}; copy it again, or name the one that fits"
        )


def _read_recipe(path: Path, *, targets: str | list[str], saved: list[str] | None) -> Lora:
    """Rank, alpha and dropout of an adapter_config.json whose other entries are the expected ones, or PEFT's own defaults."""
    config = files.read_json(path)
    absent = [name for name in TRANSLATED if name not in config] if isinstance(config, dict) else list(TRANSLATED)
    if absent:
        raise WeightsError(f"{path}: no {', '.join(absent)} in it; copy the adapter's own {ADAPTER_CONFIG}")
    try:
        recipe = Lora(r=config["r"], alpha=config["lora_alpha"], dropout=config["lora_dropout"])
    except pydantic.ValidationError as error:
        raise WeightsError(f"{path}: not rank, alpha and dropout of LoRA: {error.errors()[0]['msg']}; copy the adapter again") from error
    named = config["target_modules"]
    expected = {**LoraConfig().to_dict(), "peft_type": "LORA", "target_modules": targets, "modules_to_save": saved}
    given = {**config, "target_modules": sorted(named) if isinstance(named, list) else named}
    # NOTE: older and newer versions of peft know other entries; empty ones switch nothing on.
    odd = [
        f"{name} {value!r} (expected {expected.get(name)!r})"
        for name, value in given.items()
        if name not in (*IRRELEVANT, "r", "lora_alpha", "lora_dropout") and value != expected.get(name) and (value or name in TRANSLATED)
    ]
    if odd:
        raise WeightsError(f"{path}: an adapter of another kind: {'; '.join(odd)}; only LLaVA's own recipe can be translated")
    return recipe


def _original_adapter_config(recipe: Lora) -> dict:
    """An adapter_config.json with the entries that every version of peft since 0.4 knows; some refuse entries that they do not."""
    return {
        "auto_mapping": None,
        "base_model_name_or_path": "",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": recipe.r,
        "revision": None,
        "target_modules": list(adapters.LINEARS),
        "task_type": "CAUSAL_LM",
    }
