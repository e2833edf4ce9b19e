"""Kernels for the notebooks of a run: silent on the network, tied to this process, and the next one started while a stage runs.

Starting a kernel and importing torch costs seconds per notebook. While one stage runs, the kernel of the next is started and imports
what that stage will need; it is given up if the library's files change before it is used.
"""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import launch, paths

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

NAME = "python3"
USUAL = ("matplotlib.pyplot", "lib.stages")  # what every notebook imports

# As nbclient asks of kernels it starts itself.
_HISTORY = "--HistoryManager.hist_file=:memory:"


@dataclass(frozen=True)
class _Ahead:
    """A kernel that waits for its notebook: what it imports, and the library's files as they were when it was started."""

    kernel: "AsyncKernelManager"
    modules: tuple[str, ...]
    files: dict[Path, int]


class Kernels:
    """The kernels of one run, made by `opened`; each serves one notebook."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._started: list[AsyncKernelManager] = []
        self._ahead: _Ahead | None = None

    @contextlib.contextmanager
    def one(self, modules: tuple[str, ...], following: tuple[str, ...] | None = None) -> Iterator["AsyncKernelManager"]:
        """A kernel for one notebook, ended with the block: the one started ahead for these modules, or a new one.

        If `following` is given, a kernel that imports those modules is started now, for the next call.
        """
        ahead, self._ahead = self._ahead, None
        usable = ahead is not None and (ahead.modules, ahead.files) == (modules, _library())
        if ahead is not None and not usable:
            _end(ahead.kernel)
        kernel = ahead.kernel if usable else self._start(None)
        try:
            if following is not None:
                self._ahead = _Ahead(self._start(following), following, _library())
            yield kernel
        finally:
            _end(kernel)

    def end(self) -> None:
        """End every kernel that is left."""
        for kernel in self._started:
            _end(kernel)

    def _start(self, modules: tuple[str, ...] | None) -> "AsyncKernelManager":
        """A new kernel; with modules, it imports them before anything else."""
        from nbclient.util import run_sync

        kernel = _manager_class()(kernel_name=NAME, transport="ipc")
        # A prefix of the sockets' names; left alone, all kernels share one in the current folder.
        kernel.ip = str(self._sockets / f"kernel-{len(self._started)}")
        self._started.append(kernel)
        arguments = [_HISTORY]
        if modules is not None:
            arguments.append(f"--IPKernelApp.exec_lines=__import__('lib.kernels').kernels.load{(*USUAL, *modules)!r}")
        run_sync(kernel.start_kernel)(extra_arguments=arguments)
        return kernel


@contextlib.contextmanager
def opened() -> Iterator[Kernels]:
    """The kernels of a run; none outlives the block, nor this process."""
    with tempfile.TemporaryDirectory(prefix="podium-") as sockets:
        kernels = Kernels(Path(sockets))
        try:
            yield kernels
        finally:
            kernels.end()


def load(*modules: str) -> None:
    """Import the modules; what is wrong with one, the notebook's own import says. Called in a kernel that was started ahead."""
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def _manager_class() -> type:
    from jupyter_client.manager import AsyncKernelManager

    class TiedKernel(AsyncKernelManager):
        """A kernel that the system ends with this process, and that remembers who talks to it."""

        talking = None

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return launch.tied(super().format_kernel_cmd(extra_arguments))

        def client(self, **settings: object) -> object:
            self.talking = super().client(**settings)
            return self.talking

    return TiedKernel


def _end(kernel: "AsyncKernelManager") -> None:
    """Kill the kernel and close what talks to it. Nothing happens if that was done before.

    NOTE: nbclient ends only kernels it started itself, and forgets one that is interrupted while it starts. Nothing here
    runs the event loop: what was interrupted in it would go on, find the kernel dead and complain.
    """
    process = getattr(kernel.provisioner, "process", None)
    if process is not None:
        process.kill()
        process.wait()
    if kernel.talking is not None:
        kernel.talking.stop_channels()
        kernel.talking = None
    kernel.cleanup_connection_file()


def _library() -> dict[Path, int]:
    """When each file of the library was last changed."""
    return {path: path.stat().st_mtime_ns for path in (paths.ROOT / "lib").rglob("*.py")}
