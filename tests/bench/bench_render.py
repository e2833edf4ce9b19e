"""Measure the rendering of global and local pictures against merely decoding the frames they need: the share of its speed.

Call `python -m tests.bench.bench_render`. The videos, copies of one made on the spot, are full HD, a picture that moves and
flickers, with a key frame every second; each has five phases at places drawn at random. Both measurements use the same videos, frames
and number of workers, one per core, and are the best of the same number of runs, taken in turn. Wall times mean something on an idle
machine only; `load` tells.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lib import media
from lib.submissions.cityllava import frames

WIDTH, HEIGHT = 1920, 1080
FRAMES = 240
VIDEOS = 8
PHASES = 5
RUNS = 3
LIMIT_RATIO = 0.8


def measure() -> dict:
    """Seconds for decoding and for rendering, and their ratio."""
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        extraction = write_videos(root)

        def decode() -> None:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda video: media.read_frames(root / video, wanted_frames(extraction[video])), extraction))

        def render() -> None:
            frames.render_videos(root, extraction, root / "out", box_scale=1.2, crop_scale=1.5, workers=workers)

        load = os.getloadavg()[0]
        taken = [(_seconds(decode), _seconds(render)) for _ in range(RUNS)]
    decoding, rendering = (min(times) for times in zip(*taken, strict=True))
    return {
        "workers": workers,
        "load": round(load, 2),
        "frames": VIDEOS * PHASES,
        "decoding_seconds": round(decoding, 2),
        "rendering_seconds": round(rendering, 2),
        "ratio": round(decoding / rendering, 3),
    }


def write_videos(root: Path) -> dict[str, dict]:
    """Write the videos, copies of one, below the root; returns their extraction."""
    draw = np.random.default_rng(0)
    media.write_video(root / "one.mp4", moving_pictures(draw), 30.0)
    extraction = {}
    for number in range(VIDEOS):
        video = f"WTS/videos/train/S{number}/overhead_view/S{number}_Camera1_0.mp4"
        (root / video).parent.mkdir(parents=True)
        shutil.copyfile(root / "one.mp4", root / video)
        wanted = sorted(draw.choice(FRAMES, PHASES, replace=False).tolist())
        extraction[video] = {
            "ped_bboxes": {str(frame): [800, 400, 60, 150] for frame in wanted},
            "veh_bboxes": {str(frame): [1000, 350, 300, 200] for frame in wanted},
            "phase_number": {str(frame): str(phase) for phase, frame in enumerate(wanted)},
        }
    return extraction


def moving_pictures(draw: np.random.Generator) -> Iterator[np.ndarray]:
    """A coarse pattern that slides under a flicker of light."""
    blocks = draw.integers(0, 256, (HEIGHT // 8, WIDTH // 8 + FRAMES // 4, 3), np.uint8)
    scene = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    for number in range(FRAMES):
        yield scene[:, 2 * number : 2 * number + WIDTH] // 2 + draw.integers(0, 100, dtype=np.uint8)


def wanted_frames(entry: dict) -> list[int]:
    """The frame numbers of an extraction's entry."""
    return [int(frame) for frame in entry["phase_number"]]


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> int:
    """Print the figures and the limit; 1 when it is missed."""
    figures = measure()
    print(json.dumps(figures, indent=2))
    held = figures["ratio"] >= LIMIT_RATIO
    print(f"limit: at least {LIMIT_RATIO} of the speed of decoding: {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
