"""The store of stage results, addressed by identity: `log/.stages/<submission>/<NN-stage>/<key>/`.

A folder counts only once its `record.json` is there, written last by atomic rename; time stamps, notebook metadata and the mere
presence of files mean nothing. On every use the results are compared with the digests in the record.
"""

import fnmatch
import shutil
from collections.abc import Mapping
from pathlib import Path

import pydantic

from lib import files, paths
from lib.errors import DataError, RecordError
from lib.records import StageRecord

RECORD = "record.json"
IDENTITY = "identity.json"
PROGRESS = "progress.json"
LOCK = ".lock"
KEY_LENGTH = 16  # letters of the key in folder names; the record holds the whole

# What a stage leaves behind that tells of the way, not the result: it carries times and host names, so no identity holds it.
TRACES = (
    "notebook.ipynb",
    "report.html",
    "*.log",
    "params.txt",
    "training.jsonl",
    PROGRESS,
    "tensorboard/*",
    "checkpoints/*",
    "features/*",
    RECORD,
    IDENTITY,
)

# A folder of rendered pictures is one result with one digest: by the thousand they would drown the record.
MEDIA = "media"


def folder(submission: str, stage: str, key: str) -> Path:
    """The place of the stage's result with that identity."""
    return paths.log() / ".stages" / submission / paths.numbered(stage) / key[:KEY_LENGTH]


def result_digests(place: Path) -> dict[str, str]:
    """Digest of each result by its name: of every file of `result_files`, and of the folder of media as a whole."""
    digests = {_below(place, path): files.sha256_file(path) for path in result_files(place)}
    return digests | ({MEDIA: digest_tree(place / MEDIA)} if (place / MEDIA).is_dir() else {})


def result_files(place: Path) -> list[Path]:
    """The files that are the stage's result, sorted; traces and media left out."""
    found = [path for path in files.list_files(place) if path.relative_to(place).parts[0] != MEDIA]
    return [path for path in found if not any(fnmatch.fnmatch(_below(place, path), pattern) for pattern in TRACES)]


def read_record(place: Path) -> StageRecord | None:
    """The record of a finished stage, or None where there is none. Raises RecordError for one that cannot be read."""
    path = place / RECORD
    if not path.is_file():
        return None
    try:
        return StageRecord.model_validate(files.read_json(path))
    except DataError as error:
        reason = str(error).partition(": ")[2].partition(";")[0]
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    raise RecordError(f"{paths.relative(path)} cannot be read ({reason}); delete its folder, and the stage is made again")


def finished(place: Path, *, by_hand: bool = False, rehash: bool = False) -> StageRecord | None:
    """The record if the stage is done and its results are what the record says, else None.

    A result made with cells beside the notebook's own counts only `by_hand`.
    """
    record = read_record(place)
    if record is None or (record.interactive and not by_hand):
        return None
    return None if changed_files(place, record.outputs, rehash=rehash) else record


def changed_files(place: Path, digests: Mapping[str, str], *, rehash: bool = False) -> list[str]:
    """Names of the results that are missing or differ from their digest; `rehash` reads every byte again, trusting no memory."""
    memory = {} if rehash else _remembered()
    changed = [name for name, expected in digests.items() if _digest(place / name, memory) != expected]
    if not rehash:
        _remember(memory)
    return changed


def digest_tree(root: Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """One digest over the names and contents of the files below `root` that match; contents read before are remembered."""
    found = [path for path in files.list_files(root) if any(fnmatch.fnmatch(_below(root, path), one) for one in patterns)]
    return digest_files(root, found)


def digest_files(root: Path, found: list[Path]) -> str:
    """One digest over the names, as seen from `root`, and contents of these files; contents read before are remembered."""
    memory = _remembered()
    digest = _digest_files(root, found, memory)
    _remember(memory)
    return digest


def seal(place: Path, record: StageRecord) -> None:
    """Write the record: from now on the stage is done."""
    files.write_json(place / RECORD, record.model_dump(mode="json"))


def clear(place: Path) -> None:
    """Empty a place whose results are no longer what its record says; the record goes first, so that no moment shows a half truth."""
    (place / RECORD).unlink(missing_ok=True)
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        if path.name == LOCK:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def newest_identity(submission: str, stage: str, *, other_than: str) -> dict | None:
    """The fields of the last finished result of this stage with another key: what `plan` compares with."""
    records = sorted(folder(submission, stage, "x").parent.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime_ns)
    for path in reversed(records):
        if path.parent.name != other_than[:KEY_LENGTH] and (path.parent / IDENTITY).is_file():
            return files.read_json(path.parent / IDENTITY)
    return None


def _memory_file() -> Path:
    return paths.log() / ".digests.json"


def _remembered() -> dict[str, list]:
    path = _memory_file()
    return files.read_json(path) if path.is_file() else {}


def _remember(memory: dict[str, list]) -> None:
    path = _memory_file()
    if memory != (files.read_json(path) if path.is_file() else {}):
        files.write_json(path, memory)


def _digest_files(root: Path, found: list[Path], memory: dict[str, list]) -> str:
    return files.digest({_below(root, path): _digest(path, memory) for path in found})


def _below(root: Path, path: Path) -> str:
    """The path as seen from the root it was found under; thousands of them are asked for, and relative_to takes its time."""
    return "/".join(path.parts[len(root.parts) :])


def _digest(path: Path, memory: dict[str, list]) -> str:
    """sha256 of the file, from memory where size, time, inode are unchanged, or of the folder of media; "missing" where there is none."""
    if not path.is_file():
        return _digest_files(path, files.list_files(path), memory) if path.is_dir() else "missing"
    status = path.stat()
    seen = [status.st_size, status.st_mtime_ns, status.st_ino]
    known = memory.get(str(path))
    if known is None or known[:3] != seen:
        memory[str(path)] = [*seen, files.sha256_file(path)]
    return memory[str(path)][3]
