"""LLaVA models and their pictures: built from an architecture, loaded, saved in Hugging Face layout; pictures as normalised arrays.

Several pictures of one conversation are all passed to the model in `pixel_values`, (views of the whole batch, 3, S, S), and the ids
hold as many image tokens as the views have patches. Which id that is, the tokenizer says (`image_token_id`): give it to a new one
as `extra_special_tokens={"image_token": ...}`.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from lib import files
from lib.conversation import IMAGE
from lib.errors import ConfigError, DataError, MissingInput, WeightsError

Dtype = Literal["fp32", "bf16", "fp16"]
Quantize = Literal["none", "nf4"]
Resize = Literal["squash", "pad", "anyres"]
Attention = Literal["sdpa", "flash_attention_2"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARD = "5GB"
UNQUANTIZED = ["lm_head", "model.vision_tower"]  # beginnings of module names

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own, for values from 0 to 1
STD = (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = tuple(int(value * 255) for value in MEAN)
# LLaVA-1.6's grids (columns, rows) of tiles for one picture.
GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))

# openai/clip-vit-large-patch14-336
CLIP_L_336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14,
    "image_size": 336, "hidden_act": "quick_gelu",
}  # fmt: skip
# Yi-34B's geometry (cityllava specification, section 7).
YI_34B = {
    "vocab_size": 64000, "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60, "num_attention_heads": 56,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 5e6, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0,
}  # fmt: skip
# Vicuna-7B-v1.5's geometry (dataengine specification, section 3).
VICUNA_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ARCHITECTURES = {
    "llava-v1.5-7b": {"vision": CLIP_L_336, "text": VICUNA_7B},
    "llava-v1.6-34b": {"vision": CLIP_L_336, "text": YI_34B},
    "llava-v1.6-34b-12block": {"vision": CLIP_L_336, "text": {**YI_34B, "num_hidden_layers": 72}},
}
# The original's vocabulary has no row for pictures (their id is -200), and here it gets none: they take the place of
# <|endoftext|>, a token of Yi that no chatml_direct conversation holds.
YI_IMAGE_TOKEN = 2
# In Vicuna they take the place of the byte 0xFF, which no UTF-8 text holds. llava-hf makes a new row for them, and 63 more, which
# has no published values and takes a share of every probability; so all 32000 ids keep their embedding, logit and probability.
VICUNA_IMAGE_TOKEN, VICUNA_IMAGE_PIECE = 258, "<0xFF>"


@dataclass(frozen=True)
class Llava:
    """A model and its tokenizer."""

    model: LlavaForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast

    @property
    def image_size(self) -> int:
        """Side of the square a picture is given as, in pixels."""
        return self.model.config.vision_config.image_size

    @property
    def image_tokens(self) -> int:
        """How many places of the text one picture takes."""
        return self.model.config.image_seq_length

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self.tokenizer.eos_token_id

    def to(self, device: str) -> "Llava":
        """The same model, moved to the device."""
        return replace(self, model=self.model.to(device))


def configure(architecture: Mapping, image_token_id: int) -> LlavaConfig:
    """The config of {"vision": values of CLIPVisionConfig, "text": values of LlamaConfig}. Raises ConfigError.

    Features are the patches of the last layer but one of the picture tower, brought to the text's width by Linear, GELU, Linear.
    """
    if set(architecture) != {"vision", "text"}:
        raise ConfigError(f"an architecture with the parts {', '.join(architecture) or 'none'}; a LLaVA architecture has vision and text")
    vision, text = CLIPVisionConfig(**architecture["vision"]), LlamaConfig(**architecture["text"])
    if not 0 <= image_token_id < text.vocab_size:
        raise ConfigError(f"image token {image_token_id}; it must be one of the {text.vocab_size} ids of the vocabulary")
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token_id,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def build(architecture: Mapping, image_token_id: int, *, seed: int) -> LlavaForConditionalGeneration:
    """A model with fresh weights (float32) drawn from the seed; under `torch.device("meta")` one without memory, to count."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(configure(architecture, image_token_id))


def load(folder: Path, *, dtype: Dtype, quantize: Quantize, attention: Attention = "sdpa") -> Llava:
    """Model (evaluation mode; on the CPU, or the current GPU for nf4) and tokenizer of a folder in Hugging Face layout.

    nf4: 4-bit weights with double quantisation, computed in `dtype`; picture tower and output head stay as they are. Raises
    MissingInput without such a folder, WeightsError where its files do not fit together, ConfigError for nf4 without a GPU.
    """
    options = _quantized(folder, dtype) if quantize == "nf4" else {}
    if not (folder / "config.json").is_file():
        raise MissingInput(f"{folder}: no config.json in it, so not a model in Hugging Face layout; name the folder that holds one")
    kind = files.read_json(folder / "config.json").get("model_type")
    if kind != "llava":
        raise WeightsError(f"{folder}: a model of type {kind!r}, expected 'llava'; convert it first")
    logging.disable_progress_bar()  # a red bar under a notebook's cell, for what takes seconds
    try:
        model, loaded = LlavaForConditionalGeneration.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation=attention, local_files_only=True, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: cannot be loaded ({str(error).strip().splitlines()[0]}); copy or convert it again") from error
    # transformers fills what is missing with random numbers and goes on.
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loaded[fault]:
            names = sorted(map(str, loaded[fault]))
            raise WeightsError(f"{folder}: {len(names)} {fault.replace('_', ' ')} ({names[0]}, ...); the weights are of another model")
    _check_tokenizer(folder, tokenizer, model.config.image_token_index)
    return Llava(model.eval(), tokenizer)


def _quantized(folder: Path, dtype: Dtype) -> dict:
    """What `from_pretrained` needs for 4-bit weights. Raises ConfigError where they cannot be."""
    if not torch.cuda.is_available():
        raise ConfigError(f'{folder}: 4-bit weights (nf4) need an NVIDIA GPU, and there is none here; set quantize to "none"')
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(f'{folder}: 4-bit weights (nf4) need bitsandbytes; install the extra `gpu`, or set quantize to "none"')
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[dtype],
        llm_int8_skip_modules=UNQUANTIZED,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def _check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, image_token: int) -> None:
    if not tokenizer.is_fast:
        raise WeightsError(f"{folder}: a tokenizer without character offsets; save it as tokenizer.json")
    named = tokenizer.image_token_id if hasattr(tokenizer, "image_token_id") else None
    if named != image_token:
        raise WeightsError(
            f"{folder}: the tokenizer names {named} as image token, the model {image_token}; "
            'set extra_special_tokens {"image_token": ...} in tokenizer_config.json'
        )


def save(bundle: Llava, folder: Path) -> None:
    """Write weights (safetensors in shards), config, tokenizer and `preprocessor_config.json` into the folder. Raises DiskFull."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        bundle.model.save_pretrained(folder, max_shard_size=SHARD)
        save_preprocessing(bundle, folder)
    except (SafetensorError, OSError) as error:
        raise files.disk_full(files.system_error(error), folder) from error


def save_preprocessing(bundle: Llava, folder: Path) -> None:
    """Write the tokenizer and, for other programs, how pictures are prepared: what a folder of weights lacks to be loaded."""
    bundle.tokenizer.save_pretrained(folder)
    size = bundle.image_size
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": int(Image.Resampling.BICUBIC),
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    files.write_json(folder / "preprocessor_config.json", preprocessor)


def read_published_tokenizer(
    folder: Path, *, image_token: int = YI_IMAGE_TOKEN, end: str = "<|im_end|>", **options: object
) -> PreTrainedTokenizerFast:
    """The tokenizer of a published folder, made to name an image token and the token that ends answers; padding is <unk>.

    The image token is `<image>` where the vocabulary has it, else `image_token`. `options` go over those of the folder, as legacy=False.
    Raises WeightsError where there is no tokenizer, or one without these tokens.
    """
    try:
        plain = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        token = IMAGE if IMAGE in plain.get_vocab() else plain.convert_ids_to_tokens(image_token)
        # NOTE: without its vocabulary's file transformers makes a tokenizer of three tokens, and says nothing.
        if token is None or end not in plain.get_vocab():
            raise WeightsError(f"{folder}: a tokenizer of {len(plain)} tokens, without {end} or the id {image_token}; copy its files again")
        named = {"extra_special_tokens": {"image_token": token}, "eos_token": end, "pad_token": plain.unk_token}
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **named, **options)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: no tokenizer that can be read ({str(error).splitlines()[0]}); copy its files again") from error


def read_picture(path: Path) -> Image.Image:
    """The whole picture, decoded, as RGB. Raises DataError, naming the file, where that is not possible."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture; run the stage that renders it again") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a whole picture ({error}); replace it") from None


def pixel_values(paths: Sequence[Path], size: int, resize: Resize) -> Tensor:
    """(N, 3, size, size) float32: the views of these files in their order. Raises DataError for a file that is no picture."""
    return torch.from_numpy(prepare([read_picture(path) for path in paths], size, resize))


def count_views(paths: Sequence[Path], size: int, resize: Resize) -> int:
    """How many views `pixel_values` makes of these files; only the tiles of anyres depend on what is in them."""
    if resize != "anyres":
        return len(paths)
    sizes = [read_picture(path).size for path in paths]
    return sum(1 + math.prod(side // size for side in best_resolution(each, grids(size))) for each in sizes)


def prepare(pictures: Sequence[Image.Image], size: int, resize: Resize) -> np.ndarray:
    """(N, 3, size, size) float32: what the model sees of the pictures of one conversation, one view each in their order.

    squash ignores the aspect ratio: CityLLaVA's input, which it calls bigsmall, is (local, global) squashed. pad fills up to a square
    with the mean colour. anyres makes several views of a picture, the whole first.
    """
    make = {"squash": lambda picture: [picture], "pad": lambda picture: [pad_to_square(picture)], "anyres": lambda p: tiles(p, size)}
    return np.stack([normalise(view, size) for picture in pictures for view in make[resize](picture)])


def normalise(picture: Image.Image, size: int) -> np.ndarray:
    """(3, size, size) float32: resized whatever its aspect ratio (PIL's bicubic), from 0 to 1, then CLIP's mean and deviation."""
    square = picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    values = np.asarray(square, dtype=np.float32) / 255
    return ((values - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)


def pad_to_square(picture: Image.Image) -> Image.Image:
    """The picture in the middle of a square of CLIP's mean colour; of an odd difference the larger half is right or below."""
    side = max(picture.size)
    return _centred(picture, (side, side), PAD_COLOUR)


def tiles(picture: Image.Image, size: int) -> list[Image.Image]:
    """LLaVA-1.6's own input (anyres): the picture, then the tiles, row by row, of it scaled into its best grid, centred on black."""
    width, height = best_resolution(picture.size, grids(size))
    scale = min(width / picture.width, height / picture.height)
    inner = min(math.ceil(picture.width * scale), width), min(math.ceil(picture.height * scale), height)
    canvas = _centred(picture.resize(inner, Image.Resampling.BICUBIC), (width, height), (0, 0, 0))
    corners = [(x, y) for y in range(0, height, size) for x in range(0, width, size)]
    return [picture, *(canvas.crop((x, y, x + size, y + size)) for x, y in corners)]


def grids(size: int) -> list[tuple[int, int]]:
    """Width and height of LLaVA-1.6's grids of tiles of this size."""
    return [(columns * size, rows * size) for columns, rows in GRIDS]


def best_resolution(size: tuple[int, int], choices: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of the choices (width, height) the one that keeps most pixels of a picture of this size and, among those, wastes fewest."""

    def merit(choice: tuple[int, int]) -> tuple[int, int]:
        scale = min(choice[0] / size[0], choice[1] / size[1])
        kept = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
        return kept, kept - choice[0] * choice[1]

    return max(choices, key=merit)


def _centred(picture: Image.Image, size: tuple[int, int], colour: tuple[int, ...]) -> Image.Image:
    canvas = Image.new("RGB", size, colour)
    canvas.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return canvas
