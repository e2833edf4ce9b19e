"""The record of a finished stage: what a run, the store of results and `verify` read of each other."""

from typing import Literal

import pydantic

from lib.files import digest

Status = Literal["done", "failed", "interrupted", "running"]


class StageRecord(pydantic.BaseModel):
    """How a stage ended. Written last, by atomic rename: only a stage that has one is done.

    `outputs` maps each result file to its sha256; `traces` (logs, TensorBoard, the executed notebook) are listed but part of no
    identity. `interactive` names what was run beside the notebook's own cells; such a result is shown but never taken as a hit.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    submission: str
    stage: str
    key: str
    status: Status
    started: str
    seconds: float
    peak_memory_mib: int
    entry: Literal["notebook", "python"]
    interactive: list[str] = []
    outputs: dict[str, str]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    git: dict[str, str]
    dropped: dict[str, int] = {}

    @property
    def result_digest(self) -> str:
        """sha256 over names and digests of the results: what later stages take into their identity."""
        return digest(self.outputs)
