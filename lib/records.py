"""What stages hand to each other in files: the record of a finished stage, and rows of dataclasses as JSON lines."""

from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from lib.errors import DataError
from lib.files import digest, read_jsonl

T = TypeVar("T")
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


def read_rows(path: Path, kind: type[T]) -> list[T]:
    """The rows of a JSON-lines file as dataclasses. Raises DataError with the row and the field that does not fit."""
    try:
        return pydantic.TypeAdapter(list[kind]).validate_python(read_jsonl(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        row, *field = first["loc"]
        name = ".".join(map(str, field)) or "row"
        raise DataError(f"{path}: row {int(row) + 1}: {name}: {first['msg']}; run the stage that wrote it again") from None
