"""Parsed JSON as it should be: checks of single items, and readers that name the file and the line, row or item that is not so."""

import json
from collections.abc import Mapping
from pathlib import Path

from lib import files
from lib.errors import DataError

Kinds = type | tuple[type, ...]
Fields = Mapping[str, Kinds]

_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false", type(None): "null"}
_LONGEST = 40  # characters of a value that a message shows


def require(value: object, kind: Kinds, place: str) -> None:
    """Raise DataError, naming the place, unless the value is of this kind."""
    if not isinstance(value, kind):
        wanted = " or ".join(_NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise DataError(f"{place}: found {_shown(value)}, expected {wanted}; bring the published file")


def require_fields(item: object, fields: Fields, place: str) -> dict:
    """The item, an object that has these fields. Raises DataError, naming place and field, if it is not."""
    require(item, dict, place)
    for name, kind in fields.items():
        if name not in item:
            raise DataError(f"{place}: no {name}; bring the published file")
        require(item[name], kind, f"{place}: {name}")
    return item


def read_object(path: Path, fields: Fields) -> dict:
    """The JSON file, an object that has these fields."""
    return require_fields(files.read_json(path), fields, str(path))


def read_list(path: Path, fields: Fields) -> list[dict]:
    """The JSON file, a list of objects that have these fields; an error names the row, counted from 1."""
    items = files.read_json(path)
    require(items, list, str(path))
    for number, item in enumerate(items, start=1):
        require_fields(item, fields, f"{path}: row {number}")
    return items


def read_mapping(path: Path, fields: Fields) -> dict[str, dict]:
    """The JSON file, an object whose every value is an object that has these fields; an error names its key."""
    items = files.read_json(path)
    require(items, dict, str(path))
    for key, item in items.items():
        require_fields(item, fields, f"{path}: item {key}")
    return items


def read_lines(path: Path, fields: Fields) -> list[dict]:
    """The JSON lines, objects that have these fields; blank lines are skipped, an error names the line."""
    return [require_fields(item, fields, f"{path}:{number}") for number, item in files.numbered_jsonl(path)]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
