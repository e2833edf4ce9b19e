"""03 of cityllava: insert copies of decoder layers that start as the identity, and prove that the model computes what it did.

Weights in the layout of the LLaVA repository are converted to Hugging Face's first. Nothing is loaded whole: a checkpoint of many
shards passes through shard by shard.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from lib import blocks, files, shards, store
from lib.blocks import Expansion
from lib.config import StageSettings
from lib.runs import Run

READS = ("base",)
SETTINGS = ("model",)

# NOTE: the weights lie where records of pictures lie in other stages: one digest, not kept in best-result-review.
BASE, MODEL, MAP = f"{store.MEDIA}/base", f"{store.MEDIA}/model", "layer_map.json"
CLIP = "clip-vit-large-patch14-336"
PROOF_TOKENS = 48


@dataclass(frozen=True)
class Base:
    """Weights as files: name of the model, folder, layer map, and sha256 of each file."""

    name: str
    folder: Path
    expansion: Expansion
    digests: dict[str, str]


def load_base(cfg: StageSettings, run: Run) -> Base:
    """The base weights in Hugging Face layout, converted if they are in that of LLaVA; read once for their digests."""
    from lib import checkpoints

    folder = run.base
    if checkpoints.is_original_layout(folder):
        folder = run.out / BASE
        checkpoints.adopt(run.base, folder, clip=clip_folder(run.base))
    layers = shards.read_config(folder)["text_config"]["num_hidden_layers"]
    digests = {path.name: files.sha256_file(path) for path in files.list_files(folder) if path.suffix == ".safetensors"}
    return Base(cfg.model.name, folder, blocks.plan_expansion(layers, 0), digests)


def plan(cfg: StageSettings) -> list[dict]:
    """The blocks to insert: number in the expanded model, and the layer each is a copy of."""
    from lib import llava

    architecture = cfg.model.architecture or llava.ARCHITECTURES[cfg.model.name]
    expansion = blocks.plan_expansion(architecture["text"]["num_hidden_layers"], cfg.block_expansion.new_blocks)
    return [{"new block": one.layer, "copy of layer": one.source} for one in expansion.blocks if one.inserted]


def expand(base: Base, inserted: list[dict], cfg: StageSettings, run: Run) -> Base:
    """Write the expanded checkpoint; without blocks to insert the base itself is handed on."""
    if not inserted:
        return base
    expansion = blocks.plan_expansion(base.expansion.base_layers, len(inserted))
    target = run.out / MODEL
    if not target.is_dir():
        blocks.expand_checkpoint(base.folder, target, expansion, quirk=cfg.block_expansion.quirks.vision_tower)
    digests = {path.name: files.sha256_file(path) for path in files.list_files(target) if path.suffix == ".safetensors"}
    return Base(base.name, target, expansion, digests)


def prove(before: Base, after: Base) -> dict:
    """That nothing changed: every tensor compared and, for a model that fits this machine twice, the logits of both."""
    structure = blocks.prove_structure(before.folder, after.folder, after.expansion)
    found = {
        "model": after.name,
        "layers before": len(before.expansion.blocks),
        "layers after": len(after.expansion.blocks),
        "new blocks": len(after.expansion.inserted),
        "tensors compared": structure.tensors,
        "output projections that are zero": structure.zeroed,
        "tensors that differ": list(structure.different[:5]),
        "identical": structure.identical,
    }
    if not _fits(after.folder):
        return {**found, "logits": "not computed: the model is too large for this machine, its tensors were compared instead"}
    logits = blocks.prove_identity(before.folder, after.folder, positions=PROOF_TOKENS, seed=0)
    return {
        **found,
        "positions": logits.positions,
        "logits compared": logits.logits,
        "largest difference of a logit": logits.max_difference,
        "identical": structure.identical and logits.identical,
    }


def save_model(base: Base, run: Run) -> list[str]:
    """Write the layer map and which weights the next stage starts from."""
    rows = [vars(block) for block in base.expansion.blocks]
    files.write_json(run.out / MAP, {"model": base.name, "blocks": rows, "sha256": base.digests})
    return [MAP, *base.digests]


def clip_folder(weights: Path) -> Path | None:
    """The CLIP model beside the weights, for a checkpoint that names its vision tower without holding it; None if it is not there."""
    folder = weights.parent / CLIP
    return folder if folder.is_dir() else None


def start_weights(run: Run) -> Path:
    """The folder of weights that a later stage starts from: expanded, converted, or the base itself."""
    place = run.of("block_expansion")
    return next((place / name for name in (MODEL, BASE) if (place / name).is_dir()), run.base)


def read_expansion(place: Path) -> Expansion:
    """The layer map that this stage wrote into its folder."""
    return Expansion(tuple(blocks.Block(**row) for row in files.read_json(place / MAP)["blocks"]))


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Where each layer comes from."""
    from lib import plots_llava

    expansion = read_expansion(run.out)
    return [("Where each layer of the expanded model comes from:", plots_llava.layer_map(expansion.blocks))] if expansion.inserted else []


def _fits(folder: Path) -> bool:
    """Whether the weights take at most a tenth of this machine's memory, so that two models and their states fit with ease."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sum(path.stat().st_size for path in files.list_files(folder)) < memory / 10
