"""A progress bar for whatever takes longer than two seconds: a bar under a notebook's cell, log lines everywhere else."""

import logging
import sys
import time
from html import escape
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

QUIET_SECONDS = 2.0  # nothing is shown for what is done by then
BAR_SECONDS, LINE_SECONDS = 0.5, 5.0


class Bar:
    """Progress of one piece of work with a known number of steps; use it in a `with` block and call `at` as often as you like."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total
        self.began = self.told = time.monotonic()
        self.done, self.note = 0, ""
        self._shown: object | None = None

    def at(self, done: int, note: str = "") -> None:
        """Say how many steps are done, and anything else worth a few words."""
        self.done, self.note = done, note
        now = time.monotonic()
        pause = BAR_SECONDS if _in_notebook() else LINE_SECONDS
        if now - self.began >= QUIET_SECONDS and now - self.told >= pause:
            self.told = now
            self._show()

    def text(self) -> str:
        """The state in one line: label, steps, share, note, time left."""
        share = self.done / self.total if self.total else 1.0
        gone = time.monotonic() - self.began
        left = f" | eta {gone / self.done * (self.total - self.done) / 60:.1f} min" if 0 < self.done < self.total else ""
        note = f" | {self.note}" if self.note else ""
        return f"{self.label} {self.done}/{self.total} ({share:.0%}){note}{left}"

    def _show(self) -> None:
        if not _in_notebook():
            logger.info(self.text())
            return
        from IPython.display import HTML, display

        bar = HTML(f'<progress max="{self.total}" value="{self.done}" style="width:16em"></progress> <code>{escape(self.text())}</code>')
        if self._shown is None:
            self._shown = display(bar, display_id=True)
        else:
            self._shown.update(bar)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the bar as it ended; one that was never shown stays away."""
        if self._shown is not None:
            self._show()


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process, which shows rich output."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")
