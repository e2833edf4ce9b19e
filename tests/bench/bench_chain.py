"""Measure the whole chain of a3r, tiny profile: `python -m tests.bench.bench_chain`, in folders of its own, some minutes.

Four measurements, each in fresh processes: everything from empty data and log folders; the same command again; and, with data and
base weights in place, the seven notebooks against the same cells as plain Python in one process. The plain driver takes its code
from the notebooks, so it stays true to them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUBMISSION = "a3r"
LIMIT_FIRST_SECONDS = 150.0
LIMIT_AGAIN_SECONDS = 5.0
LIMIT_RATIO = 1.3
TAIL_LINES = 15


def measure(home: Path) -> dict[str, float]:
    """Seconds of the first call, of the second, of the notebook path and the plain path with data and base weights in place."""
    command = [sys.executable, "-m", "lib", "run", SUBMISSION]
    first, _ = timed(command, home, "log")
    again, output = timed(command, home, "log")
    hits = sum(line.split()[-1:] == ["hit"] for line in output.splitlines())
    notebooks, _ = timed(command, home, "log-notebooks")
    plain, _ = timed([sys.executable, "-m", "tests.bench.bench_chain", "--plain"], home, "log-plain")
    return {"first": first, "again": again, "hits": hits, "notebooks": notebooks, "plain": plain}


def timed(command: list[str], home: Path, log: str) -> tuple[float, str]:
    """(seconds, output) of a command with the folders of `home`. Ends the bench with the end of its output if it fails."""
    print(f"{log}: {' '.join(command[1:])}", flush=True)
    folders = {"PODIUM_DATA": home / "data", "PODIUM_LOG": home / log, "PODIUM_BEST": home / "best"}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}}
    began = time.perf_counter()
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.perf_counter() - began
    if answer.returncode:
        sys.exit("\n".join([*answer.stdout.splitlines()[-TAIL_LINES:], f"{' '.join(command)} ended with status {answer.returncode}"]))
    return seconds, answer.stdout


def run_plain() -> None:
    """Run the cells of the seven notebooks in this process, one after the other, each notebook with names of its own."""
    from lib import identity, paths

    for stage in paths.STAGES:
        names: dict[str, object] = {"__name__": f"notebook_{stage}"}
        for cell in identity.code_cells(paths.notebook(stage)):
            exec(compile(cell["source"], str(paths.notebook(stage)), "exec"), names)  # noqa: S102 - the kit's own notebooks
            if "parameters" in cell["tags"]:
                # Run 01 begins a run, the others go on with it; 07 alone would otherwise open the kept run.
                names |= {"SUBMISSION": SUBMISSION, "RUN": "new" if stage == paths.STAGES[0] else "latest"}


def main() -> int:
    """Print figures and targets; 1 when a target is missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    ratio = figures["notebooks"] / figures["plain"]
    rows = [
        (
            "everything from empty folders",
            f"{figures['first']:.1f} s",
            f"<= {LIMIT_FIRST_SECONDS:.0f} s",
            figures["first"] <= LIMIT_FIRST_SECONDS,
        ),
        ("the same command again", f"{figures['again']:.1f} s", f"<= {LIMIT_AGAIN_SECONDS:.0f} s", figures["again"] <= LIMIT_AGAIN_SECONDS),
        ("stages that were a hit then", f"{figures['hits']}", "7", figures["hits"] == 7),
        ("notebooks, data and base in place", f"{figures['notebooks']:.1f} s", "", True),
        ("the same cells as plain Python", f"{figures['plain']:.1f} s", "", True),
        ("notebooks / plain Python", f"{ratio:.2f}", f"<= {LIMIT_RATIO}", ratio <= LIMIT_RATIO),
    ]
    print(f"\n{'a3r, tiny profile':36}{'figure':>10}{'target':>12}")
    for name, figure, target, held in rows:
        print(f"{name:36}{figure:>10}{target:>12}{'' if held else '  MISSED'}")
    print(json.dumps({**figures, "ratio": ratio}))
    return 0 if all(held for *_, held in rows) else 1


if __name__ == "__main__":
    if "--plain" in sys.argv[1:]:
        run_plain()
    else:
        sys.exit(main())
