"""The training program of mini: deterministic arithmetic, a checkpoint every few steps, bit for bit the same after a break."""

import subprocess
import sys
import time
from pathlib import Path

from lib import files
from lib.errors import StageFailed

WEIGHTS = 8


def train(plan: dict) -> None:
    """Go on from the last checkpoint to the last step, and export the weights."""
    out, numbers = Path(plan["out"]), files.read_json(Path(plan["samples"]))
    checkpoint = out / "checkpoints" / "state.json"
    fresh = {"step": 0, "random": plan["seed"] + 1, "weights": [0.0] * WEIGHTS}
    state = files.read_json(checkpoint) if checkpoint.is_file() else fresh
    first = state["step"]
    print(f"starts at step {first}", flush=True)
    if plan["grandchildren"]:
        subprocess.Popen(["sleep", "1000"])
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    while state["step"] < plan["steps"]:
        if first == 0 and state["step"] == plan["crash_at"]:
            raise StageFailed(f"crashed at step {state['step']}, as asked")
        state["random"] = (state["random"] * 1103515245 + 12345) % 2**31
        place = state["random"] % WEIGHTS
        state["weights"][place] += plan["lr"] * (numbers[state["random"] % len(numbers)] - state["weights"][place])
        state["step"] += 1
        time.sleep(plan["pause"])
        if state["step"] % plan["save_every"] == 0:
            files.write_json(checkpoint, state)
            files.write_json(out / "progress.json", {"step": state["step"], "of": plan["steps"], "unit": "step"})
    files.write_json(out / "model" / "weights.json", state["weights"])
    print(f"ends at step {state['step']}", flush=True)


if __name__ == "__main__":
    train(files.read_json(Path(sys.argv[1])))
