"""Features of pictures, by which the engine finds neighbours: of OpenAI's CLIP ViT-B/32 as published, or of the model's own tower.

N pictures, D feature dimensions. Features are kept beside the stage as they are made, so that an interrupted run goes on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lib import files, paths
from lib.errors import MissingInput
from lib.progress import Bar

Embedding = Literal["ViT-B-32", "tower"]
Features = NDArray[np.float32]

BATCH = 64
CLIP = "ViT-B-32-openai"  # the folder below data/base


def embed(names: Sequence[str], root: Path, *, embedding: Embedding, model: Path, cache: Path) -> Features:
    """(N, D) features of pictures below `root`, one batch after the other; those in the folder `cache` are not made again.

    `model` is the LLaVA whose tower is used. Raises MissingInput where the weights are not there, DataError for what is no picture.
    """
    parts = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    places = [cache / f"{files.digest([embedding, *part])[:16]}.npy" for part in parts]
    encode: Callable[[Sequence[Path]], Features] | None = None
    with Bar("picture features", len(names)) as bar:
        for number, (part, place) in enumerate(zip(parts, places, strict=True)):
            if not place.is_file():
                encode = encode or (_tower(model) if embedding == "tower" else _clip())
                place.parent.mkdir(parents=True, exist_ok=True)
                draft = place.with_suffix(".draft.npy")
                np.save(draft, encode([root / name for name in part]))
                draft.replace(place)
            bar.at(min((number + 1) * BATCH, len(names)))
    return np.concatenate([np.load(place) for place in places])


def _tower(folder: Path) -> Callable[[Sequence[Path]], Features]:
    """The mean over the patches that the language model gets to see."""
    import torch

    from lib import llava, runtime

    bundle = llava.load(folder, dtype="fp32", quantize="none").to(runtime.accelerator())
    layer = bundle.model.config.vision_feature_layer

    @torch.inference_mode()
    def encode(pictures: Sequence[Path]) -> Features:
        pixels = llava.pixel_values(pictures, bundle.image_size, "pad").to(bundle.model.device)
        states = bundle.model.model.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states[layer]
        return states[:, 1:].mean(dim=1).float().cpu().numpy()

    return encode


def _clip() -> Callable[[Sequence[Path]], Features]:
    """The picture features of CLIP ViT-B/32, not normalised."""
    import torch

    from lib import llava, models, runtime

    folder = paths.data() / "base" / CLIP
    if not folder.is_dir():
        raise MissingInput(
            f"{paths.relative(folder)} is not there: the weights of OpenAI's ViT-B/32 as an OpenCLIP folder; bring them, or choose "
            "augmentation.embedding=tower"
        )
    bundle = models.load_open_clip(folder, device=runtime.accelerator())

    @torch.inference_mode()
    def encode(pictures: Sequence[Path]) -> Features:
        pixels = torch.stack([bundle.eval_transform(llava.read_picture(path)) for path in pictures])
        return bundle.model.encode_image(pixels.to(runtime.accelerator())).float().cpu().numpy()

    return encode
