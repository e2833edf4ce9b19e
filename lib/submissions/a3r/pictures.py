"""Pictures on their way into the image tower: reading, square padding, and OpenCLIP's transform with the padding in front.

Sizes are in pixels. Padding comes before the conversion to RGB, as published (a3r specification, section 3): a palette picture is
padded with colour 0 of its own palette, whatever that is. EXIF orientation is ignored, as in the original.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from PIL import Image, UnidentifiedImageError

from lib.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

Padding = Literal["as_published", "exact", "none"]
Transform = Callable[[Image.Image], "Tensor"]

CROP_SCALE = (0.9, 1.0)  # area of the training crop; open_clip's own default, fixed here because the recipe depends on it
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own, for values from 0 to 1 (a3r specification, section 3)
STD = (0.26862954, 0.26130258, 0.27577711)

# What PIL's decoders raise for broken files; which one depends on the format and on where the file breaks off.
DAMAGE = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


def read_picture(path: Path) -> Image.Image:
    """The whole picture, decoded, in the mode of its file. Raises DataError, naming the file, where that is not possible."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture; copy it there or take its line out of the list") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a picture; replace it or take it out of the folder") from None
    except DAMAGE as error:
        raise DataError(f"{path}: the picture is cut off or damaged ({error}); copy it again") from None


def pad_to_square(picture: Image.Image, *, padding: Padding) -> Image.Image:
    """The picture in the middle of a square of zeros, in its own mode.

    "as_published" adds floor(difference / 2) on both sides, so an odd difference stays one pixel short of a square and 1 x 2
    is not padded at all; "exact" puts the odd pixel on the right or at the bottom; "none" returns the picture as it is.
    """
    if padding not in get_args(Padding):
        raise ConfigError(f"there is no square padding {padding!r}; there are: {', '.join(get_args(Padding))}")
    width, height = picture.size
    left, top = max(0, (height - width) // 2), max(0, (width - height) // 2)
    if padding == "none":
        return picture
    if padding == "exact":
        size = (max(width, height),) * 2
    else:
        size = (width + 2 * left, height + 2 * top)
    if size == picture.size:
        return picture
    canvas = Image.new(picture.mode, size, 0)
    if picture.mode == "P":
        canvas.putpalette(picture.palette)
    canvas.paste(picture, (left, top))
    return canvas


@dataclass(frozen=True)
class SquarePadding:
    """`pad_to_square` as a step of a transform; an object and not a closure, so that loader workers can be sent it."""

    padding: Padding

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The padded picture."""
        return pad_to_square(picture, padding=self.padding)


def with_padding(transform: Transform, padding: Padding) -> Transform:
    """OpenCLIP's own transform with the padding in front: what the original changed in `create_model_and_transforms`."""
    from torchvision.transforms import Compose

    return Compose([SquarePadding(padding), transform])


def build_transform(image_size: int, *, train: bool, padding: Padding) -> Transform:
    """Picture of any mode and size -> normalised float32 tensor (3, image_size, image_size).

    Training: padding, a random crop of 0.9-1.0 of the area (ratio 3/4 to 4/3), bicubic; torch's generator decides. Otherwise:
    padding, shortest side to `image_size`, bicubic, centre crop. `padding="none"` is the ablation and what the augmentation
    stage uses.
    """
    from open_clip import image_transform

    recipe = {"scale": CROP_SCALE}
    return with_padding(image_transform(image_size, is_train=train, mean=MEAN, std=STD, aug_cfg=recipe), padding)
