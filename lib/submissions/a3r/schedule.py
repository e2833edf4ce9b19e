"""The learning rate at every step and the weight-decay rule of the published fine-tuning, without torch.

The training itself is open_clip_train's; these formulas say what it should have done, draw the curve of the whole plan and
show what an early checkpoint of a long schedule means (a3r specification, section 4.2). Steps count from 0.
"""

import math
from collections.abc import Iterable

from lib.errors import ConfigError

# NOTE a substring test, as in the original: any name with "ln" or "bn" anywhere in it matches.
UNDECAYED = ("bn", "ln", "bias", "logit_scale")


def total_steps(samples: int, *, batch_size: int, epochs: int, accumulate: int = 1) -> int:
    """Optimiser steps of the whole plan; an epoch drops its last short batch, and batches short of one accumulation."""
    steps = samples // batch_size // accumulate * epochs
    if steps < 1:
        raise ConfigError(
            f"{samples} samples in batches of {batch_size} (accumulated {accumulate}) over {epochs} epochs make no step; "
            "lower finetune.batch_size or bring more samples"
        )
    return steps


def learning_rate(step: int, *, peak: float, warmup: int, total: int) -> float:
    """Linear warm-up, peak * (step + 1) / warmup, then half a cosine to 0 at `total`; ConfigError for a step outside of it."""
    if not 0 <= step < total:
        raise ConfigError(f"step {step} lies outside of a schedule of {total} steps; it has steps 0 to {total - 1}")
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) * peak


def is_decayed(name: str, dimensions: int) -> bool:
    """Whether weight decay acts on the parameter: matrices and above, unless the name holds bn, ln, bias or logit_scale."""
    return dimensions >= 2 and not any(part in name for part in UNDECAYED)


def split_by_decay(parameters: Iterable[tuple[str, int]]) -> tuple[list[str], list[str]]:
    """(names without weight decay, names with it) of (name, number of dimensions) pairs, in the order given."""
    undecayed, decayed = [], []
    for name, dimensions in parameters:
        (decayed if is_decayed(name, dimensions) else undecayed).append(name)
    return undecayed, decayed
