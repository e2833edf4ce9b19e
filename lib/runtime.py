"""The process and its machine: seed, threads, device, versions, and dying with the parent.

Nothing heavy is imported before it is asked for: versions come from package metadata, torch only where it is seeded or timed.
"""

import ctypes
import importlib.metadata
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

from lib.errors import StageFailed

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Ask the system to kill this process when the one that started it ends, however it ends; call it from the main thread.

    `parent` is the process id expected as parent (default: the present one): it may have ended before the request took effect.
    Linux only, where ipykernel's own watch is too slow for a GPU (ecosystem.md, conclusion 2); elsewhere a no-op.
    """
    if not sys.platform.startswith("linux"):
        return
    expected = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != expected:
        raise StageFailed(f"process {expected}, which started this one, has ended; nothing to work for")


def threads() -> int:
    """How many threads numerical code may use: OMP_NUM_THREADS if set, else the cores this process may run on."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and, where it is installed and loaded, torch; fix torch's thread count. Called once, by `begin`."""
    import random

    import numpy

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(threads())


def accelerator() -> str:
    """The kind of device numbers are computed on: "cuda" where an NVIDIA driver shows a GPU to this process, else "cpu"."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    has_driver = Path("/proc/driver/nvidia/version").exists()
    return "cuda" if has_driver and visible != "" else "cpu"


def versions(packages: list[str]) -> dict[str, str]:
    """Installed version per distribution name; "not installed" where there is none. Imports nothing."""
    found = {}
    for package in sorted(packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware() -> dict[str, str | int]:
    """Machine, processor, cores, memory in GiB and GPUs: what a reader needs to judge the times of a run."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(pages * page / 2**30),
        "gpus": ", ".join(_gpus()) or "none",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def git_state(root: Path) -> dict[str, str]:
    """Commit and uncommitted changes of the checkout: {"commit": sha or "unknown", "diff": text of `git diff HEAD`}."""

    def answer(*arguments: str) -> str:
        try:
            result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return result.stdout

    return {"commit": answer("rev-parse", "HEAD").strip() or "unknown", "diff": answer("diff", "HEAD", "--", "lib", "notebooks")}


def peak_memory_mib() -> int:
    """Largest resident memory so far of this process or of any child it has waited for, in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(own, children) // 1024
