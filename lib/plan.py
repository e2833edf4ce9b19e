"""What a run would do before it starts: per stage hit, run or resume and why; memory, disk and hours of the full profile."""

import importlib
from dataclasses import dataclass

from lib import chain, identity, runner
from lib.chain import Link
from lib.config import Resolved


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the plan: what would happen, why, and how many seconds it took last time (None if never run here)."""

    stage: str
    action: str
    because: str
    seconds: float | None


@dataclass(frozen=True)
class Cost:
    """What a stage needs: GPU memory and disk in GiB, hours, and what the figures rest on."""

    stage: str
    gpu_gib: float | None
    disk_gib: float | None
    hours: float | None
    basis: str


def stages(resolved: Resolved) -> list[PlannedStage]:
    """The plan of every stage, in order."""
    return [_planned(resolved, link) for link in chain.links(resolved).values()]


def costs(resolved: Resolved, *, gpus: int) -> list[Cost]:
    """The submission's own estimate for the published recipe; none for a profile that trains toy models."""
    module = f"lib.submissions.{resolved.submission}.costs"
    if resolved.profile != "full" or not identity.exists(module):
        return []
    return [Cost(**row) for row in importlib.import_module(module).estimate(resolved.settings, gpus)]


def _planned(resolved: Resolved, link: Link) -> PlannedStage:
    expected = runner.expected_seconds(resolved, link.stage)
    given = resolved.settings.replaced().get(link.stage)
    if given is not None:
        return PlannedStage(link.stage, "replaced", f"by the file {given}", 0.0)
    if link.record is not None:
        return PlannedStage(link.stage, "hit", "nothing it depends on has changed", 0.0)
    reached = chain.progress(link)
    if reached is not None:
        return PlannedStage(
            link.stage, f"resume from {reached['unit']} {reached['step']} of {reached['of']}", chain.changes(link), expected
        )
    return PlannedStage(link.stage, "run", chain.changes(link) or "not run yet with these settings", expected)
