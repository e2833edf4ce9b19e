"""Behind notebook-reproduce: the plan of the chosen submissions, and their runs with one line per stage."""

from pathlib import Path

from lib import config, console, inputs, paths, plan, show
from lib.config import Resolved
from lib.errors import MissingInput


def plans(submissions: str, variant: str, profile: str, overrides: str) -> list[tuple[str, object]]:
    """(heading, table) per submission: its stages, estimated costs, and what has to be brought by hand."""
    shown = []
    for resolved in _resolved(submissions, variant, profile, overrides):
        shown.append((f"{resolved.submission}: the stages", show.table([vars(row) for row in plan.stages(resolved)])))
        costs = plan.costs(resolved, gpus=1)
        if costs:
            shown.append((f"{resolved.submission}: what it needs", show.table([vars(cost) for cost in costs])))
        absent = inputs.missing(resolved)
        if absent:
            shown.append((f"{resolved.submission}: missing on this machine", show.table([{"missing": line} for line in absent])))
    return shown


def run(submissions: str, variant: str, profile: str, overrides: str) -> list[Path]:
    """Run the submissions one after the other, all rounds of each, and return the run folders of the last. Raises MissingInput before anything starts."""
    chosen = _resolved(submissions, variant, profile, overrides)
    for resolved in chosen:
        absent = inputs.missing(resolved)
        if absent:
            raise MissingInput(f"{resolved.submission}: {absent[0]} is missing ({len(absent)} in all); the plan above lists them")
    return [console.run_rounds(resolved, paths.STAGES) for resolved in chosen]


def _resolved(submissions: str, variant: str, profile: str, overrides: str) -> list[Resolved]:
    names = config.submissions() if submissions == "all" else submissions.replace(",", " ").split()
    return [config.resolve(name, variant, profile, overrides) for name in names]
