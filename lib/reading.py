"""What prompts have in common is read once: the beginning up to the picture, for each picture that is asked about.

A benchmark asks up to thirty questions about one picture, and the picture with the words before it is most of a prompt. B prompts, U
different pictures, P tokens of a beginning, R tokens of the longest rest, V views of a picture, S their side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib import datasets
from lib.llava import Llava


@dataclass(frozen=True)
class Prompts:
    """Prompts to be continued: `input_ids` (B, R) still to be read, padded on the left; `attention_mask` (B, P + R) with what was read.

    `seen` is what the model is called with beside them: the pictures, or the cache of the beginnings with the pictures in them, P 0 or not.
    """

    input_ids: Tensor
    attention_mask: Tensor
    seen: dict[str, Any]

    @property
    def places(self) -> Tensor:
        """The position of each token of `input_ids`, (B, R); padding takes none."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp_min(0)[:, -self.input_ids.shape[1] :]


def prepare(bundle: Llava, prompts: Sequence[list[int]], views: Sequence[Tensor]) -> Prompts:
    """Ids and pictures (V, 3, S, S; V 0 without any) of prompts, on the model's device.

    Where prompts of one batch begin alike and some are about the same picture - the same tensor, not an equal one - the beginnings
    are read here.
    """
    length = _common_beginning(prompts, bundle.tokenizer.image_token_id)
    rows = {id(own): row for row, own in enumerate(views)}  # a row of each picture
    shared = length > 0 and len(rows) < len(prompts)
    rest = datasets.pad_left([prompt[length * shared :] for prompt in prompts], bundle.tokenizer.pad_token_id)
    ids, mask = (rest[name].to(bundle.model.device) for name in ("input_ids", "attention_mask"))
    if not shared:
        pixels = torch.cat(list(views))
        return Prompts(ids, mask, {"pixel_values": pixels.to(ids.device, bundle.model.dtype)} if len(pixels) else {})
    beginning = ids.new_tensor(prompts[0][:length])
    pixels = torch.cat([views[row] for row in rows.values()]).to(ids.device, bundle.model.dtype)
    # NOTE: not in torch.inference_mode: weights that ZeRO-3 gathers there could not be trained afterwards.
    with torch.no_grad():
        cache = bundle.model.model(beginning.expand(len(rows), -1), pixel_values=pixels, use_cache=True).past_key_values
    place = {picture: number for number, picture in enumerate(rows)}
    cache.batch_select_indices(torch.tensor([place[id(own)] for own in views], device=ids.device))
    return Prompts(ids, torch.cat([mask.new_ones(len(prompts), length), mask], dim=1), {"past_key_values": cache})


def _common_beginning(prompts: Sequence[list[int]], image_token: int) -> int:
    """How many tokens all prompts have up to the end of their picture, the same ones; 0 if they differ, or one ends there."""
    first = prompts[0]
    length = len(first) - first[::-1].index(image_token) if image_token in first else 0
    rests = [prompt[length:] for prompt in prompts if prompt[:length] == first[:length]]
    return length if len(rests) == len(prompts) and all(rest and image_token not in rest for rest in rests) else 0
