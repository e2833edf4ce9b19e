"""A LLaVA put together from what is published of its parts: language model, CLIP and the projector of LLaVA's first stage.

This is where the instruction tuning of LLaVA-1.5 starts. The parts' tensors are renamed, never computed with, each in the type it is
published in, and pass through shard by shard. As a program, `python -m lib.assembly VICUNA CLIP PROJECTOR FOLDER`, where the projector is
the folder of its file.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from lib import runtime

if __name__ == "__main__":
    runtime.die_with_parent()

import torch

from lib import checkpoints, files, llava, original_adapters, shards
from lib.errors import KitError, WeightsError
from lib.llava import VICUNA_IMAGE_PIECE, VICUNA_IMAGE_TOKEN, Llava
from lib.shards import Shard, Stored

LANGUAGE = "language_model."  # the beginning of Hugging Face's names
# Entries of a part's config.json that are about its file and not about the model.
ABOUT_THE_FILE = ("_name_or_path", "architectures", "dtype", "model_type", "torch_dtype", "transformers_version")


def assemble(language: Path, tower: Path, projector: Path, target: Path) -> None:
    """Write the LLaVA of a Vicuna folder, a CLIP folder and a `mm_projector.bin` into the folder `target`, as `lib.llava` loads it.

    Text is tokenized as by Vicuna, ids, embeddings and logits are Vicuna's; pictures take the place of the byte 0xFF. Raises WeightsError
    that lists missing, unexpected and misshapen tensors of a part, or for another language model than Vicuna; MissingInput, ConfigError.
    """
    config = shards.read_config(language)
    if config.get("model_type") != "llama":
        raise WeightsError(f"{language}: a model of type {config.get('model_type')!r}, expected 'llama'; name the folder of Vicuna")
    tokenizer = llava.read_published_tokenizer(language, image_token=VICUNA_IMAGE_TOKEN, end="</s>", legacy=False)
    if tokenizer.image_token != VICUNA_IMAGE_PIECE:
        raise WeightsError(
            f"{language}: its token for pictures would be {tokenizer.image_token!r}, expected {VICUNA_IMAGE_PIECE!r} "
            f"with the id {VICUNA_IMAGE_TOKEN}; name the folder of Vicuna"
        )
    configs = {"vision": checkpoints.tower_config({}, tower), "text": config}
    architecture = {
        part: {name: value for name, value in entries.items() if name not in ABOUT_THE_FILE} for part, entries in configs.items()
    }
    with torch.device("meta"):
        model = llava.build(architecture, VICUNA_IMAGE_TOKEN, seed=0)
    shapes = {checkpoints.from_hugging_face(name): tuple(value.shape) for name, value in model.state_dict().items()}
    weights = [
        *_fit(language, checkpoints.read_weights(language), shapes, LANGUAGE),
        *_fit(tower, checkpoints.tower_weights(tower, {}, tower), shapes, checkpoints.TOWER),
        *_fit(projector, [checkpoints.read_pickle(projector)], shapes, checkpoints.PROJECTOR),
    ]
    kind = config.get("torch_dtype", config.get("dtype"))
    # NOTE: Vicuna's generation_config.json stays behind: it sets a temperature without sampling, which transformers refuses to save.
    with shards.unfinished(target) as folder:
        shards.write_shards(folder, weights)
        llava.save_preprocessing(Llava(model, tokenizer), folder)
        files.write_json(
            folder / shards.CONFIG, {**model.config.to_dict(), "architectures": ["LlavaForConditionalGeneration"], "dtype": kind}
        )


def _fit(place: Path, weights: list[Shard], shapes: Mapping[str, tuple[int, ...]], beginning: str) -> list[dict[str, Stored]]:
    """The shards of one part under Hugging Face's names; they hold exactly those of `shapes` that begin so. Raises WeightsError."""
    renamed = [
        {checkpoints.from_original(name): stored for name, stored in shard.items() if not checkpoints.BUFFER.search(name)}
        for shard in weights
    ]
    held = {_published_name(name): stored.shape for shard in renamed for name, stored in shard.items()}
    wanted = {_published_name(name): shape for name, shape in shapes.items() if name.startswith(beginning)}
    original_adapters.check_tensors(place, held, wanted)
    return renamed


def _published_name(name: str) -> str:
    """A tensor's name in Hugging Face layout -> in the folder or file of its part."""
    return checkpoints.to_original_name(name).removeprefix("model.vision_tower.vision_tower.")


def main(arguments: list[str]) -> int:
    """Put a LLaVA together in a process of its own; a refusal is one line, as the last of the log."""
    language, tower, projector, target = map(Path, arguments)
    try:
        assemble(language, tower, projector / checkpoints.PROJECTOR_FILE, target)
    except KitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
