"""Writes the generated parts of README.md: `python -m tests.readme`. A test compares them with what this module makes now."""

import re
import sys

from lib import claims, config, files, paths, review, runs, show
from lib.__main__ import TICK, matrix_rows

README = paths.ROOT / "README.md"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """The README with every generated part made anew."""
    makers = {"matrix": matrix, "claims": claim_tables, "times": times}
    return BLOCK.sub(lambda found: found.group(1) + makers[found.group(2)]() + found.group(3), text)


def matrix() -> str:
    """Stages by submission; a tick links to the stage's own module."""
    rows = []
    for row in matrix_rows():
        name = row["submission"]
        cells = {
            stage: f"[{stage}](lib/submissions/{name}/{stage}.py)" if value == TICK else "handed on"
            for stage, value in row.items()
            if stage in paths.STAGES
        }
        rows.append({"submission": name, **cells})
    return markdown(rows)


def claim_tables() -> str:
    """Per submission with a kept run: the claims that are no mere arithmetic, with verdicts."""
    parts = []
    for name in config.submissions():
        folder = paths.best() / name
        if not (folder / runs.RUN_FILE).is_file():
            continue
        verdicts = [one for one in review.judge(folder) if one.claim.kind != "structural"]
        rows = [{key: value for key, value in show.verdict_row(one).items() if key != "why"} for one in verdicts]
        structural = [one for one in review.judge(folder) if one.claim.kind == "structural"]
        counts = {word: count for word, count in claims.count_verdicts(structural).items() if count}
        spoken = ", ".join(f"{count} {word}" for word, count in counts.items())
        parts.append(
            f"{name}, {runs.read(folder)['profile']} profile:\n\n{markdown(rows)}\nBeside these, {len(structural)} counts and settings: {spoken}.\n"
        )
    return "\n".join(parts)


def times() -> str:
    """Seconds and peak memory per stage of every kept run, and the machine."""
    rows, machines = [], []
    for name in config.submissions():
        folder = paths.best() / name
        if not (folder / runs.RUN_FILE).is_file():
            continue
        content = runs.read(folder)
        seconds = {stage: f"{entry['seconds']:.1f}" for stage, entry in content["stages"].items()}
        rows.append({"submission": name, "profile": content["profile"], **seconds})
        hardware = content["hardware"]
        machines.append(
            f"{name}: {hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, GPUs: {hardware['gpus']}."
        )
    return markdown(rows) + "\n" + "\n".join(dict.fromkeys(machines)) + "\n"


def markdown(rows: list[dict]) -> str:
    """A Markdown table."""
    if not rows:
        return "No run is kept.\n"
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]).replace("|", "\\|") for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    files.write_text(README, render(files.read_text(README)))
    sys.exit(0)
