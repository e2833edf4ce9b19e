"""Low-rank adapters (LoRA) on a LLaVA model's language model, by peft: attached, counted, merged into full weights.

As in LLaVA's recipe they sit on every linear layer of the language model but its head, and the projector trains beside them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lib.config import Section

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import Tensor, nn

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# In the names of weights in memory and on disk alike.
ADAPTED = rf".*(?:language_model|model)\..*\.(?:{'|'.join(LINEARS)})"
TOWER = "vision_tower"
PROJECTOR = "multi_modal_projector"
TARGETS = rf"(?!.*{TOWER}){ADAPTED}"  # the tower's layers have names of the same kind


class Lora(Section):
    """Low-rank adapters: rank, numerator of their scale (alpha / r), dropout."""

    r: Annotated[int, Field(gt=0)]
    alpha: Annotated[int, Field(gt=0)]
    dropout: Annotated[float, Field(ge=0, le=1)]


def attach(model: "nn.Module", recipe: Lora) -> "nn.Module":
    """The model with adapters; only they and the projector require a gradient."""
    from peft import get_peft_model

    return get_peft_model(model, lora_config(recipe))


def lora_config(recipe: Lora) -> "LoraConfig":
    """The recipe in PEFT's terms: which layers of a `LlavaForConditionalGeneration` get adapters, and that its projector is saved too."""
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        bias="none",
        target_modules=TARGETS,
        modules_to_save=[PROJECTOR],
        task_type="CAUSAL_LM",
    )


def count_values(shapes: Mapping[str, tuple[int, ...]], rank: int) -> int:
    """How many values the adapters of this rank have on weights of these shapes: rank x (inputs + outputs) on each adapted one."""
    adapted = re.compile(rf"{ADAPTED}\.weight")
    return sum(rank * sum(shape) for name, shape in shapes.items() if TOWER not in name and adapted.fullmatch(name))


def save(model: "nn.Module", state: Mapping[str, "Tensor"], folder: Path) -> None:
    """Write adapters and projector, from the model's gathered state, in PEFT's format; the place of the base weights is left out."""
    model.peft_config["default"].base_model_name_or_path = ""
    model.save_pretrained(folder, state_dict=dict(state))
    (folder / "README.md").unlink()  # an empty form


def merge(model: "nn.Module", folder: Path) -> "nn.Module":
    """The model with the adapter of a folder (PEFT's format) added to its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder).merge_and_unload()
