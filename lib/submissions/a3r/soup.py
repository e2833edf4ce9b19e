"""Model soup: the average of several checkpoints' weights, uniform or greedy (a3r specification, section 4.7).

Floating-point tensors are averaged in float64 and returned in their own type. Integer and bool buffers (counters, masks) have
no meaningful mean: the first checkpoint's are taken. Pass memory-mapped state dicts for large models; one tensor at a time is
widened.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lib.errors import ConfigError, WeightsError

State = Mapping[str, Tensor]
Metric = Callable[[State], float]  # larger is better; the original used text-to-image R@10 of the validation vehicles
Quirk = Literal["as_published", "corrected"]

NAMES_SHOWN = 5


@dataclass(frozen=True)
class Step:
    """One attempt of the greedy soup: which checkpoint was added, the soup's metric with it, and whether it stayed."""

    added: int
    metric: float
    accepted: bool


@dataclass(frozen=True)
class GreedySoup:
    """The soup, its metric, the checkpoints in it (numbers as given, best first) and every attempt in order."""

    state: State
    metric: float
    members: tuple[int, ...]
    steps: tuple[Step, ...]


def uniform_soup(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of all checkpoints. Raises WeightsError, naming them, where keys or shapes differ."""
    if not states:
        raise WeightsError("a soup of no checkpoints; name at least one")
    check_same_shape(states)
    return {key: _mean([state[key] for state in states]) for key in states[0]}


def greedy_soup(states: Sequence[State], metric: Metric, *, quirk: Quirk) -> GreedySoup:
    """Sort by metric, then add one checkpoint at a time and keep it if the average becomes strictly better.

    "as_published" repeats the original's slip: its counter restarts after each rejection and the first checkpoint, not better
    than itself, is rejected first; so each is tried alone, none is ever averaged, and the result is the best single
    checkpoint.
    """
    if quirk not in ("as_published", "corrected"):
        raise ConfigError(f"the greedy soup has no quirk setting {quirk!r}; it has: as_published, corrected")
    if not states:
        raise WeightsError("a soup of no checkpoints; name at least one")
    check_same_shape(states)
    alone = [_finite(metric(state), f"checkpoint {number}") for number, state in enumerate(states, start=1)]
    order = sorted(range(len(states)), key=lambda number: -alone[number])
    if quirk == "as_published":
        steps = tuple(Step(number, alone[number], False) for number in order)
        return GreedySoup(states[order[0]], alone[order[0]], (order[0],), steps)
    members, best = [order[0]], alone[order[0]]
    steps = [Step(order[0], best, True)]
    for number in order[1:]:
        value = _finite(metric(uniform_soup([states[member] for member in [*members, number]])), f"the soup with checkpoint {number + 1}")
        steps.append(Step(number, value, value > best))
        if value > best:
            members, best = [*members, number], value
    return GreedySoup(uniform_soup([states[member] for member in members]), best, tuple(members), tuple(steps))


def check_same_shape(states: Sequence[State]) -> None:
    """Raise WeightsError unless all checkpoints have the same keys, shapes and types; it lists the first few that do not."""
    first = states[0]
    for number, state in enumerate(states[1:], start=2):
        odd = sorted(set(first) ^ set(state))
        if odd:
            raise WeightsError(f"checkpoint {number} and checkpoint 1 differ in {_listed(odd)}; a soup needs one architecture")
        odd = [f"{key} {_form(state[key])} against {_form(first[key])}" for key in first if _form(state[key]) != _form(first[key])]
        if odd:
            raise WeightsError(f"checkpoint {number} and checkpoint 1 differ in {_listed(odd)}; a soup needs one architecture")


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise WeightsError(f"{what} has the metric {value}; leave a diverged checkpoint out of the soup")
    return value


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    total = first.to(torch.float64)
    for tensor in tensors[1:]:
        total = total + tensor
    return (total / len(tensors)).to(first.dtype)


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
