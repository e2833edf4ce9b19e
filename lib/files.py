"""Reading and writing files: whole or not at all, and errors that name file and line.

Writers put the text into a temporary file beside the target, flush it to disk and rename it, so that a reader never sees half a
file and a full disk costs nothing but the attempt.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from lib.errors import DataError, DiskFull


def read_text(path: Path) -> str:
    """The file as text (UTF-8, line ends untouched). Raises DataError if it is missing or not text."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; bring it, or make it again") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder where a file should be") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_json(path: Path) -> object:
    """The parsed JSON file. Raises DataError with line and column where the JSON breaks off."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not valid JSON at column {error.colno} ({error.msg}); is the file cut off? bring or make it again"
        ) from None


def read_jsonl(path: Path) -> list[dict]:
    """One object per line; blank lines are skipped. Raises DataError with the number of the first bad line."""
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """The same with the number of each line, from 1."""
    # Not splitlines: it also parts at U+2028 and the like, which JSON text may hold as they are.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not valid JSON ({error.msg}); is the file cut off? bring or make it again") from None
        yield number, row


def read_yaml(path: Path) -> dict:
    """The parsed YAML mapping. Raises DataError with the line where the YAML breaks off."""
    try:
        value = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DataError(f"{path}:{mark.line + 1 if mark else '?'}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: a YAML mapping expected, found {type(value).__name__}")
    return value


def write_bytes(path: Path, content: bytes) -> None:
    """Write the whole file or nothing: temporary file, fsync, rename. Raises DiskFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise disk_full(error, path.parent) from error
    finally:
        if temporary is not None:  # still there after a failure or an interrupt only
            Path(temporary).unlink(missing_ok=True)


def disk_full(error: OSError, folder: Path) -> Exception:
    """The error to raise for a failed write: DiskFull when the disk or the quota is full, else the OSError itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{folder}: no space left on this disk; free some and give the same command again, finished work is kept")
    return error


def system_error(error: Exception) -> OSError:
    """A failed write as the system's error: safetensors, for one, hides its number in its text."""
    number = errno.ENOSPC if f"os error {errno.ENOSPC}" in str(error) else getattr(error, "errno", None) or errno.EIO
    return OSError(number, str(error))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write JSON with two blanks of indent and a final line end, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object per line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def cut_last_line(path: Path) -> bool:
    """Remove what follows the last line end of a file that is appended to: the beginning of a line whose writer was killed.

    Returns whether there was any. Bytes, not text: the cut may have fallen inside a character.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb+") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) == b"\n":
            return False
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
    return True


def write_yaml(path: Path, value: dict) -> None:
    """Write YAML in the order of the mapping, whole or not at all."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def digest(value: object) -> str:
    """sha256 (hex) of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 (hex) of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(folder: Path) -> list[Path]:
    """All files below the folder, sorted by their path; names that begin with a dot are left out."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = (name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file while the block runs; yields False at once if `wait` is off and another process holds it.

    The lock goes with the process that holds it, however that process ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        try:
            stream.truncate(0)
            os.write(stream.fileno(), b"%d\n" % os.getpid())
        except OSError as error:
            raise disk_full(error, path.parent) from error
        yield True


def holder(path: Path) -> int | None:
    """The process that took the lock last; None if none ever did."""
    text = path.read_text(encoding="ascii") if path.is_file() else ""
    return int(text) if text.strip() else None
