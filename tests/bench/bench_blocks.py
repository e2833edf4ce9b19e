"""Measure how much memory the expansion of a checkpoint needs: a LLaMA of 2.2 GB in five shards, against its largest shard.

Call `python -m tests.bench.bench_blocks`. The checkpoint and its expansion (together about 5 GB) lie in a temporary folder (TMPDIR).
Linux only (reads /proc).
"""

import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lib import blocks, files, shards

LAYERS, INSERTED = 16, 4
HIDDEN, INTERMEDIATE, HEADS, KEY_VALUE_HEADS, VOCABULARY = 2048, 8192, 16, 4, 32_000
SHARDS = 5
LIMIT_OF_LARGEST_SHARD = 1.5


def build_checkpoint(folder: Path) -> int:
    """Write the checkpoint, random bf16 weights layer after layer; returns the bytes of its largest shard."""
    per_shard: list[dict[str, shards.Stored]] = [{} for _ in range(SHARDS)]
    named = list(shapes().items())
    for number, (name, shape) in enumerate(named):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        per_shard[number * SHARDS // len(named)][name] = shards.Stored("BF16", shape, size, functools.partial(_noise, size, number))
    folder.mkdir()
    shards.write_shards(folder, per_shard)
    files.write_json(folder / "config.json", {"model_type": "llama", "num_hidden_layers": LAYERS})
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


def shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the model."""
    key_value = HIDDEN * KEY_VALUE_HEADS // HEADS
    layer = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (key_value, HIDDEN),
        "self_attn.v_proj": (key_value, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    every = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    every |= {f"model.layers.{number}.{name}.weight": shape for number in range(LAYERS) for name, shape in layer.items()}
    return every | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def _noise(size: int, seed: int) -> Iterator[bytes]:
    generator = random.Random(seed)
    for done in range(0, size, shards.CHUNK_BYTES):
        yield generator.randbytes(min(shards.CHUNK_BYTES, size - done))


def measure(folder: Path, task: str) -> dict:
    """Peak memory and seconds of one task in a fresh process, so that no earlier peak is counted."""
    command = [sys.executable, "-m", "tests.bench.bench_blocks", task, str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure_here(task: str, folder: Path) -> dict:
    """Expand, or prove the expansion by its bytes, in this process; peak is the whole process, mapped files among it."""
    base, target, expansion = folder / "base", folder / "expanded", blocks.plan_expansion(LAYERS, INSERTED)
    begin = time.perf_counter()
    identical = True
    if task == "expand":
        blocks.expand_checkpoint(base, target, expansion, quirk="corrected")
    else:
        identical = blocks.prove_structure(base, target, expansion).identical
    return {"seconds": round(time.perf_counter() - begin, 1), "peak_bytes": _peak_bytes(), "identical": identical}


def _peak_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> int:
    """Print the figures and the limit; 1 when it is missed or the expanded checkpoint is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        largest = build_checkpoint(folder / "base")
        total = sum(path.stat().st_size for path in (folder / "base").iterdir())
        expanding, proving = measure(folder, "expand"), measure(folder, "prove")
    figures = {
        "load": round(os.getloadavg()[0], 2),
        "checkpoint_mib": total >> 20,
        "largest_shard_mib": largest >> 20,
        "expand_peak_mib": expanding["peak_bytes"] >> 20,
        "expand_seconds": expanding["seconds"],
        "prove_peak_mib": proving["peak_bytes"] >> 20,
        "prove_seconds": proving["seconds"],
        "expand_peak_of_largest_shard": round(expanding["peak_bytes"] / largest, 3),
        "prove_peak_of_largest_shard": round(proving["peak_bytes"] / largest, 3),
        "identical": proving["identical"],
    }
    print(json.dumps(figures, indent=2))
    peak = max(expanding["peak_bytes"], proving["peak_bytes"])
    held = peak <= LIMIT_OF_LARGEST_SHARD * largest and proving["identical"]
    print(f"limit: at most {LIMIT_OF_LARGEST_SHARD} of the largest shard, and a proof: {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure_here(sys.argv[1], Path(sys.argv[2]))))
    else:
        sys.exit(main())
