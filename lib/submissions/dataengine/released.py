"""Released weights of LLaVA-1.5 as the ones that answer: adapters or a whole checkpoint, in the original's layout or Hugging Face's."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from lib import adapters, checkpoints, files, llava, original_adapters, shards
from lib.generation import Precision

CLIP = "clip-vit-large-patch14-336"  # a folder beside the weights, for a checkpoint that names its tower without holding it
END = "</s>"


def adopt(released: Path, base: Path, target: Path, precision: Precision) -> Path:
    """The folder, as `lib.llava` loads it, of a model that answers like the released one: `released` itself, or `target`, made now.

    Adapters are merged into the weights `base` in float32 and kept as they are computed with. Raises WeightsError for tensors that do
    not fit, MissingInput for a file that is not there.
    """
    if (released / original_adapters.ADAPTER_CONFIG).is_file():
        if not target.is_dir():
            _merge(released, base, target, precision)
        return target
    if checkpoints.is_original_layout(released):
        clip = next((place.parent / CLIP for place in (released, base) if (place.parent / CLIP).is_dir()), None)
        checkpoints.adopt(released, target, clip=clip, image_token=llava.VICUNA_IMAGE_TOKEN, end=END, legacy=False)
        return target
    return released


def _merge(released: Path, base: Path, target: Path, precision: Precision) -> None:
    adapter, translated = released, target.with_name(f".{target.name}.adapter")
    shutil.rmtree(translated, ignore_errors=True)
    if original_adapters.is_original_adapter(released):
        adapter = translated
        original_adapters.to_peft(released, adapter)
    _check_fit(adapter, released, base)
    bundle = llava.load(base, dtype="fp32", quantize="none")
    model = adapters.merge(bundle.model, adapter)
    with shards.unfinished(target) as folder:
        llava.save(replace(bundle, model=model if precision == "fp32" else model.to(torch.bfloat16)), folder)
    shutil.rmtree(translated, ignore_errors=True)


def _check_fit(adapter: Path, released: Path, base: Path) -> None:
    """Raise WeightsError unless the adapter (PEFT's format) has exactly the tensors that LLaVA's recipe has on the weights `base`."""
    config = shards.read_config(base)
    sizes = {**config["text_config"], "mm_hidden_size": config["vision_config"]["hidden_size"]}
    rank = files.read_json(adapter / original_adapters.ADAPTER_CONFIG)["r"]
    lora, projector = original_adapters.original_shapes(base, sizes, rank)
    wanted = {original_adapters.to_peft_name(name): shape for name, shape in (lora | projector).items()}
    held = shards.read_shard(adapter / original_adapters.ADAPTER)
    original_adapters.check_tensors(released, {name: stored.shape for name, stored in held.items()}, wanted)
