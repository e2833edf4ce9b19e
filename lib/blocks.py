"""Block expansion: copies of decoder layers that start as the identity, inserted at equal distances, and the rule of what is trained.

The algorithm is LLaMA-Pro's (32 -> 40 layers), which CityLLaVA applies to 60 layers (-> 72): after every `split`-th layer follows a
copy of it whose output projections (`o_proj` of the attention, `down_proj` of the MLP) are zero. Each branch then adds nothing to the
residual stream, so the model computes what it did before, until the new blocks are trained.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import files, shards
from lib.config import Quirk
from lib.errors import ConfigError, WeightsError
from lib.shards import Shard, Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ZEROED = ("o_proj", "down_proj")
# Language model's prefix in a plain LLaMA or the original LLaVA layout, in Hugging Face LLaVA in memory, and on disk.
LANGUAGE_MODEL = r"(?:model\.language_model\.|language_model\.model\.|model\.)"
TOWER = r"(?:model\.)?vision_tower\."
LAYER = re.compile(rf"({LANGUAGE_MODEL}layers\.)(\d+)(\..+)")
TOWER_LAYER = re.compile(rf"({TOWER}(?:.+\.)?layers\.)(\d+)(\..+)")
OLD_BLOCKS, NEW_BLOCKS, HEAD, OTHER = "old blocks", "new blocks", "head", "other"
PARTS = {
    "embeddings": re.compile(rf"{LANGUAGE_MODEL}embed_tokens\."),
    "final norm": re.compile(rf"{LANGUAGE_MODEL}norm\."),
    HEAD: re.compile(r"(?:language_model\.)?lm_head\."),
    "projector": re.compile(r"(?:model\.)?(?:multi_modal_projector|mm_projector)\."),
    "vision tower": re.compile(TOWER),
}
# What can train of an expanded model: as the published code has it, as its text says, and the head alone as a control.
TRAINED: dict[str, tuple[str, ...]] = {"blocks_and_head": (NEW_BLOCKS, HEAD), "blocks": (NEW_BLOCKS,), "head": (HEAD,)}
ROWS = ("embeddings", OLD_BLOCKS, NEW_BLOCKS, "final norm", HEAD, "projector", "vision tower", OTHER)


@dataclass(frozen=True)
class Block:
    """A layer of the expanded model: its number, the base layer its weights come from, and whether it is a new block."""

    layer: int
    source: int
    inserted: bool


@dataclass(frozen=True)
class Expansion:
    """The layer map of an expanded model, first layer first."""

    blocks: tuple[Block, ...]

    @property
    def inserted(self) -> tuple[int, ...]:
        """Numbers of the new blocks in the expanded model."""
        return tuple(block.layer for block in self.blocks if block.inserted)

    @property
    def base_layers(self) -> int:
        """Number of layers before the expansion."""
        return len(self.blocks) - len(self.inserted)


def working_counts(layers: int) -> list[int]:
    """Numbers of new blocks that a model of so many layers can take: those that a whole distance between them gives, and 0."""
    return [0, *(count for count in range(1, layers + 1) if layers // (layers // count) == count)]


def plan_expansion(layers: int, inserted: int) -> Expansion:
    """The layer map for `inserted` new blocks in a model of `layers` layers. Raises ConfigError that lists the counts that work."""
    if layers < 1:
        raise ConfigError(f"a model of {layers} layers cannot be expanded; it has at least 1")
    counts = working_counts(layers)
    if inserted not in counts:
        listed = ", ".join(map(str, counts))
        raise ConfigError(f"{inserted} new blocks cannot be spread evenly over {layers} layers; counts that work: {listed}")
    split = layers // inserted if inserted else layers + 1
    blocks: list[Block] = []
    for source in range(layers):
        blocks.append(Block(len(blocks), source, False))
        if (source + 1) % split == 0:
            blocks.append(Block(len(blocks), source, True))
    return Expansion(tuple(blocks))


def published_tower(tower_layers: int, expansion: Expansion) -> tuple[int, ...]:
    """What the published script makes of the vision tower's layers: number in the expanded checkpoint -> source layer.

    It finds layers by the text `layers.<i>.`, which the tower's names contain as well, so it renumbers and doubles those too.
    """
    return tuple(block.source for block in expansion.blocks if block.source < tower_layers)


def expand_checkpoint(source: Path, target: Path, expansion: Expansion, *, quirk: Quirk) -> None:
    """Write the expanded checkpoint into the folder `target`, shard by shard; index and config.json fit it, other files are copied.

    `source` is a folder of safetensors with one of the layouts of `LAYER`. `as_published` scrambles the vision tower as the published
    script does, and writes the layers that the model then loads. Raises ConfigError or WeightsError before anything is written
    if source and expansion do not fit each other, DiskFull.
    """
    config, base = shards.read_config(source), shards.read_shards(source)
    names = [name for shard in base for name in shard]
    _check_layers(source, config, names, expansion)
    tower = _scrambled_tower(names, expansion) if quirk == "as_published" else None
    expanded = [_expand_shard(shard, expansion, tower) for shard in base]
    with shards.unfinished(target) as folder:
        shards.write_shards(folder, expanded)
        shards.copy_other_files(source, folder)
        files.write_json(folder / shards.CONFIG, expand_config(config, expansion))


def expand_config(config: dict, expansion: Expansion) -> dict:
    """The config of the expanded model: number of layers, and the list with an entry per layer where there is one."""
    if "text_config" in config:
        return {**config, "text_config": expand_config(config["text_config"], expansion)}
    expanded = {**config, "num_hidden_layers": len(expansion.blocks)}
    if config.get("layer_types"):
        expanded["layer_types"] = [config["layer_types"][block.source] for block in expansion.blocks]
    return expanded


def _check_layers(source: Path, config: dict, names: list[str], expansion: Expansion) -> None:
    """Raise unless the config, the weights and the expansion have the same layers, and those are a LLaMA's."""
    declared = config.get("text_config", config).get("num_hidden_layers")
    found = {int(match[2]) for match in map(LAYER.fullmatch, names) if match}
    if not found:
        raise WeightsError(f"{source}: no layer named model.layers.<i>. or model.language_model.layers.<i>.; not of the LLaMA family")
    if declared != len(found) or max(found) + 1 != len(found):
        raise WeightsError(f"{source}: config.json declares {declared} layers, the weights hold {len(found)}; correct num_hidden_layers")
    if expansion.base_layers != len(found):
        raise ConfigError(f"the expansion is planned for {expansion.base_layers} layers, {source} has {len(found)}; plan it for those")
    for layer in sorted({expansion.blocks[inserted].source for inserted in expansion.inserted}):
        own = [match[3] for match in map(LAYER.fullmatch, names) if match and int(match[2]) == layer]
        missing = [word for word in ZEROED if not any(word in name for name in own)]
        if missing:
            raise WeightsError(f"{source}: no {' and no '.join(missing)} in layer {layer}, so a copy cannot start as the identity")


def _scrambled_tower(names: list[str], expansion: Expansion) -> dict[int, list[int]]:
    """Source layer of the vision tower -> the layers it becomes, as a tower of the same size loads the published script's output."""
    layers = len({match[2] for match in map(TOWER_LAYER.fullmatch, names) if match})
    sources = published_tower(layers, expansion)[:layers]
    if len(sources) < layers:
        raise ConfigError(
            f"as_published would leave {len(sources)} of the vision tower's {layers} layers, since the language model has "
            f"only {expansion.base_layers}; take corrected"
        )
    return {source: [layer for layer, one in enumerate(sources) if one == source] for source in range(layers)}


def _expand_shard(shard: Shard, expansion: Expansion, tower: dict[int, list[int]] | None) -> dict[str, Stored]:
    """The tensors that a shard of the base becomes, by their names in the expanded checkpoint; without `tower` it stays as it is."""
    expanded = {}
    for name, stored in shard.items():
        for renamed, is_zero in _expanded_names(name, expansion, tower):
            if is_zero and "F" not in stored.dtype:
                raise WeightsError(f"{name} holds {stored.dtype}, quantized weights; expand the checkpoint they were made from")
            expanded[renamed] = stored.zeroed() if is_zero else stored
    return expanded


def _expanded_names(name: str, expansion: Expansion, tower: dict[int, list[int]] | None) -> Iterator[tuple[str, bool]]:
    """(name in the expanded checkpoint, whether it is zero there) of a tensor of the base."""
    layer, tower_layer = LAYER.fullmatch(name), TOWER_LAYER.fullmatch(name)
    if layer:
        for block in expansion.blocks:
            if block.source == int(layer[2]):
                yield f"{layer[1]}{block.layer}{layer[3]}", block.inserted and _is_output_projection(layer[3])
    elif tower_layer and tower is not None:
        for number in tower[int(tower_layer[2])]:
            yield f"{tower_layer[1]}{number}{tower_layer[3]}", False
    else:
        yield name, False


def _is_output_projection(name: str) -> bool:
    return any(word in name for word in ZEROED)


@dataclass(frozen=True)
class LogitProof:
    """Base and expanded model on the same input: positions (image positions among them), logits compared, their largest difference."""

    positions: int
    logits: int
    max_difference: float

    @property
    def identical(self) -> bool:
        """Whether no logit differs at all."""
        return self.max_difference == 0.0


@dataclass(frozen=True)
class WeightProof:
    """The expanded checkpoint against the base, byte by byte: tensors compared, how many of them zero, names of those that are wrong."""

    tensors: int
    zeroed: int
    different: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every output projection of the new blocks is zero and everything else as in the base."""
        return not self.different


def prove_identity(base: Path, expanded: Path, *, positions: int, seed: int) -> LogitProof:
    """Compare the logits of both checkpoints on random tokens (and, in front of them, a random image), one model in memory at a time.

    `positions` counts the tokens of text. Raises WeightsError if a model lacks weights.
    """
    before, after = (_logits(folder, positions, seed) for folder in (base, expanded))
    return LogitProof(before.shape[1], before.numel(), (before - after).abs().max().item())


def prove_structure(base: Path, expanded: Path, expansion: Expansion) -> WeightProof:
    """Compare the files instead, for models too large to run here; one chunk of two tensors is in memory at a time."""
    found = {name: stored for shard in shards.read_shards(expanded) for name, stored in shard.items()}
    expected: dict[str, Stored] = {}
    for shard in shards.read_shards(base):
        expected |= _expand_shard(shard, expansion, None)
    astray = expected.keys() ^ found.keys()
    unequal = {name for name in expected.keys() & found.keys() if not expected[name].equals(found[name])}
    zeroed = [name for name in expected if _is_output_projection(name) and part_of(name, expansion) == NEW_BLOCKS]
    return WeightProof(len(expected), len(zeroed), tuple(sorted(astray | unequal)))


def _logits(folder: Path, positions: int, seed: int) -> "Tensor":
    """(1, P, V) logits of the checkpoint, in float32, on the input that the seed and the model's config determine."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder)
    has_images = hasattr(config, "vision_config")
    kind = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    model, report = kind.from_pretrained(folder, dtype="auto", output_loading_info=True)
    if report["missing_keys"]:
        raise WeightsError(f"{folder}: weights missing: {shards.name_list(sorted(report['missing_keys']))}; copy the checkpoint again")
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(config.get_text_config().vocab_size, (1, positions), generator=generator)
    inputs = {"input_ids": ids}
    if has_images:
        inputs = _with_image(model, ids, generator)
    with torch.inference_mode():
        return model(**inputs).logits.float()


def _with_image(model: "nn.Module", ids: "Tensor", generator: "torch.Generator") -> "dict[str, Tensor]":
    """The tokens behind the places of one random image, with the image, for a LLaVA model."""
    import torch

    config, vision = model.config, model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + (config.vision_feature_select_strategy == "full")
    text = torch.where(ids == config.image_token_id, (ids + 1) % config.text_config.vocab_size, ids)
    pixels = torch.randn((1, vision.num_channels, vision.image_size, vision.image_size), generator=generator)
    places = torch.full((1, patches), config.image_token_id)
    return {"input_ids": torch.cat([places, text], dim=1), "pixel_values": pixels.to(model.dtype)}


@dataclass(frozen=True)
class Part:
    """A part of the model: its parameters, and how many of them are trained."""

    part: str
    parameters: int
    trained: int


def part_of(name: str, expansion: Expansion) -> str:
    """The part (one of ROWS) that a parameter of the expanded model belongs to, by its name in any of the layouts."""
    layer = LAYER.fullmatch(name)
    if layer:
        return NEW_BLOCKS if int(layer[2]) in expansion.inserted else OLD_BLOCKS
    return next((part for part, pattern in PARTS.items() if pattern.match(name)), OTHER)


def count_layers(names: Iterable[str]) -> int:
    """How many layers the language model has whose parameters these are, in any of the layouts."""
    return len({match[2] for match in map(LAYER.fullmatch, names) if match})


def trainable_names(names: Iterable[str], expansion: Expansion, parts: Collection[str]) -> list[str]:
    """The parameters of these parts (a value of TRAINED), in the order given.

    The published code trains the head, which its text does not say: it freezes `model.model`, and the head lies outside.
    """
    return [name for name in names if part_of(name, expansion) in parts]


def freeze(model: "nn.Module", expansion: Expansion, parts: Collection[str]) -> list[Part]:
    """Let only `trainable_names` require a gradient; returns the parameters per part, in the order of ROWS.

    Raises ConfigError if the model has other layers than the expansion, if nothing would be trained, or if the head is wanted but
    shares its weights with the embeddings. The model may be on the meta device, for counting.
    """
    parameters = dict(model.named_parameters())
    layers = count_layers(parameters)
    if layers != len(expansion.blocks):
        raise ConfigError(f"the model has {layers} layers, the expansion {len(expansion.blocks)}; load the expanded checkpoint")
    trained = set(trainable_names(parameters, expansion, parts))
    if HEAD in parts and not any(part_of(name, expansion) == HEAD for name in trained):
        raise ConfigError("the output head shares its weights with the embeddings, which stay frozen; train the blocks without the head")
    if not trained:
        raise ConfigError("no block was inserted and the head stays frozen, so nothing would be trained; insert blocks or train the head")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    return count_parts({name: parameter.numel() for name, parameter in parameters.items()}, trained, expansion)


def count_parts(sizes: Mapping[str, int], trained: Collection[str], expansion: Expansion) -> list[Part]:
    """Parameters per part of a model given by the size of each parameter; parts that it does not have are left out."""
    totals = {part: [0, 0] for part in ROWS}
    for name, size in sizes.items():
        total = totals[part_of(name, expansion)]
        total[0] += size
        total[1] += size if name in trained else 0
    return [Part(part, parameters, count) for part, (parameters, count) in totals.items() if parameters]
