"""Measure the ranking of the test set's size (17,611 x 17,611 x 1,280): memory beside the inputs, and speed against torch.mm.

Call `python -m tests.bench.bench_ranking`; OMP_NUM_THREADS sets the threads of both measurements, and both are the best of the same
number of runs. With as many threads as cores the figures mean something on an idle machine only: every parallel loop waits for its
slowest thread, and the ranking has more of them than one large product. `load` tells. Linux only (reads /proc).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

QUERIES = GALLERY = 17_611
DIMENSIONS = 1_280
TOP = 10
MEMORY_BYTES = 2**28
SQUARE = 4_096
RUNS = 3
LIMIT_GIB = 1.5
LIMIT_RATIO = 0.5


def measure() -> dict:
    """Peak GiB above the inputs and the share of torch.mm's rate, from a fresh process, so that no earlier peak is counted."""
    answer = subprocess.run([sys.executable, "-m", "tests.bench.bench_ranking", "--here"], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def measure_here() -> dict:
    """The same in this process: rank, then time large squares with the same threads."""
    import torch

    from lib import runtime
    from lib.submissions.a3r import ranking

    torch.set_num_threads(runtime.threads())
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(QUERIES, DIMENSIONS, generator=generator)
    images = torch.randn(GALLERY, DIMENSIONS, generator=generator)
    load, before = os.getloadavg()[0], _status_bytes("VmRSS")
    seconds = _best_seconds(lambda: ranking.top_k(texts, images, TOP, memory_bytes=MEMORY_BYTES))
    peak = _status_bytes("VmHWM")
    left, right = torch.randn(SQUARE, SQUARE), torch.randn(SQUARE, SQUARE)
    torch.mm(left, right)  # the first product also sets up its threads
    square = 2 * SQUARE**3 / _best_seconds(lambda: torch.mm(left, right))
    rate = 2 * QUERIES * GALLERY * DIMENSIONS / seconds
    return {
        "threads": torch.get_num_threads(),
        "load": round(load, 2),
        "seconds": round(seconds, 2),
        "peak_gib_above_inputs": round((peak - before) / 2**30, 3),
        "ranking_gflops": round(rate / 1e9, 1),
        "torch_mm_gflops": round(square / 1e9, 1),
        "ratio": round(rate / square, 3),
    }


def _best_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _status_bytes(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def main() -> int:
    """Print the figures and the limits; 1 when a limit is missed."""
    figures = measure()
    print(json.dumps(figures, indent=2))
    held = figures["peak_gib_above_inputs"] < LIMIT_GIB and figures["ratio"] >= LIMIT_RATIO
    print(f"limits: below {LIMIT_GIB} GiB beside the inputs, at least {LIMIT_RATIO} of torch.mm: {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    if "--here" in sys.argv[1:]:
        print(json.dumps(measure_here()))
    else:
        sys.exit(main())
