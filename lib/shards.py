"""Checkpoints of Hugging Face layout as byte ranges: read the headers, write shards and their index, never hold more than one chunk.

A safetensors file is the length of its header (8 bytes, little endian), the header (JSON: name -> dtype, shape, first and last byte)
and the tensors' bytes. Renaming, copying or zeroing a tensor needs no arithmetic, so tensors pass through here as the bytes they are,
of whatever type, and the memory needed does not depend on the size of the model.
"""

import contextlib
import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lib import files
from lib.errors import ConfigError, MissingInput, WeightsError

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
# Tensors of a published checkpoint that the model class has no place for: no part of the model, kept for the way back.
UNUSED = "unused-tensors.safetensors"
WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".index.json")
CHUNK_BYTES = 2**24
MOST_NAMED = 20

Chunk = bytes | memoryview


@dataclass(frozen=True)
class Stored:
    """A tensor as bytes: dtype in the spelling of safetensors ("BF16"), shape, number of bytes, and how to read them in chunks."""

    dtype: str
    shape: tuple[int, ...]
    size: int
    read: Callable[[], Iterator[Chunk]]

    def zeroed(self) -> "Stored":
        """A tensor of the same type and shape whose bytes are all zero."""
        return replace(self, read=functools.partial(_zero_chunks, self.size))

    def equals(self, other: "Stored") -> bool:
        """Whether type, shape and every byte agree; reads both tensors, both from safetensors files."""
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        return all(mine == theirs for mine, theirs in zip_longest(self.read(), other.read()))


Shard = Mapping[str, Stored]


def read_shards(folder: Path) -> list[dict[str, Stored]]:
    """The tensors of each shard of a checkpoint by name, as transformers finds them: model.safetensors, else the shards of the index.

    Only headers are read. Raises MissingInput if there is neither, WeightsError if a shard is missing or damaged or the index does
    not list what the shards hold.
    """
    if (folder / SINGLE).is_file():
        return [read_shard(folder / SINGLE)]
    if not (folder / INDEX).is_file():
        raise MissingInput(f"{folder}: neither {SINGLE} nor {INDEX} in it; name the folder of a checkpoint saved as safetensors")
    return gather_shards(folder / INDEX, read_shard)


def gather_shards(index: Path, read: Callable[[Path], dict[str, Stored]]) -> list[dict[str, Stored]]:
    """The shards that an index lists, each read by `read`. Raises WeightsError if they hold other tensors than it says."""
    listed = read_index(index)
    shards = {filename: read(index.parent / filename) for filename in sorted(set(listed.values()))}
    held = {(name, filename) for filename, tensors in shards.items() for name in tensors}
    astray = sorted({name for name, _ in held ^ set(listed.items())})
    if astray:
        raise WeightsError(f"{index}: does not agree with its shards about {name_list(astray)}; copy the checkpoint again")
    return list(shards.values())


def read_index(path: Path) -> dict[str, str]:
    """Tensor name -> file name of an index of shards. Raises WeightsError if it has no weight_map."""
    content = files.read_json(path)
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise WeightsError(f"{path}: no weight_map in it, so not an index of shards; copy the checkpoint again")
    return listed


def read_shard(path: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file by name. Raises MissingInput if it is not there, WeightsError if it is damaged."""
    if not path.is_file():
        raise MissingInput(f"{path}: no such shard; copy or download the checkpoint again")
    try:
        with safe_open(path, framework="np"):
            pass  # the library checks lengths, offsets and types
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        read = functools.partial(_file_chunks, path, 8 + length + first, last - first)
        tensors[name] = Stored(entry["dtype"], tuple(entry["shape"]), last - first, read)
    return tensors


def write_shards(folder: Path, shards: Sequence[Shard]) -> None:
    """Write the shards, named and indexed as transformers does (one shard: model.safetensors alone); shards without tensors are left out."""
    filled = [shard for shard in shards if shard]
    if len(filled) == 1:
        write_shard(folder / SINGLE, filled[0])
        return
    listed = {}
    for number, shard in enumerate(filled, start=1):
        filename = f"model-{number:05d}-of-{len(filled):05d}.safetensors"
        write_shard(folder / filename, shard)
        listed |= dict.fromkeys(shard, filename)
    every = [stored for shard in filled for stored in shard.values()]
    totals = {"total_parameters": sum(math.prod(stored.shape) for stored in every), "total_size": sum(stored.size for stored in every)}
    files.write_json(folder / INDEX, {"metadata": totals, "weight_map": dict(sorted(listed.items()))})


def write_shard(path: Path, shard: Shard) -> None:
    """Write one safetensors file chunk by chunk, and wait until it is on the disk."""
    # Wide types first, as the library writes them: then every tensor begins at a multiple of its item size.
    ordered = sorted(shard.items(), key=lambda item: (-(item[1].size // max(1, math.prod(item[1].shape))), item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers refuses files without it
    end = 0
    for name, stored in ordered:
        header[name] = {"dtype": stored.dtype, "shape": stored.shape, "data_offsets": [end, end + stored.size]}
        end += stored.size
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, stored in ordered:
            for chunk in stored.read():
                stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


def read_config(folder: Path) -> dict:
    """The checkpoint's config.json. Raises MissingInput if there is none."""
    if not (folder / CONFIG).is_file():
        raise MissingInput(f"{folder}: no {CONFIG} in it; name the folder of a checkpoint")
    config = files.read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise WeightsError(f"{folder / CONFIG}: a JSON object expected, found {type(config).__name__}")
    return config


def copy_other_files(source: Path, target: Path) -> None:
    """Copy what stands beside the weights (tokenizer, generation config, preprocessor ...), but neither config.json nor any weights."""
    for path in files.list_files(source):
        name = path.relative_to(source)
        if name != Path(UNUSED) and (name == Path(CONFIG) or path.name.endswith(WEIGHT_FILES)):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A folder to write a checkpoint into; it gets its name when the block is left, and is removed when that is by an error.

    Raises ConfigError if the target exists, DiskFull. What a killed process left behind is removed first.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; remove it, or name a folder that does not exist")
    draft = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        os.replace(draft, target)
    except OSError as error:
        raise files.disk_full(error, target.parent) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def list_misfits(held: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is wrong with tensors of these shapes where others are wanted: those missing, unexpected, of another shape; none if they fit."""
    misshapen = [name for name in sorted(wanted.keys() & held.keys()) if held[name] != wanted[name]]
    problems = {
        "missing": sorted(wanted.keys() - held.keys()),
        "unexpected": sorted(held.keys() - wanted.keys()),
        "of another shape": [f"{name} {held[name]} for {wanted[name]}" for name in misshapen],
    }
    return [f"{len(names)} {problem}: {name_list(names)}" for problem, names in problems.items() if names]


def name_list(names: Sequence[str]) -> str:
    """Tensor names for an error message: the first twenty, then how many more."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _file_chunks(path: Path, start: int, size: int) -> Iterator[Chunk]:
    with path.open("rb") as stream:
        stream.seek(start)
        for done in range(0, size, CHUNK_BYTES):
            yield stream.read(min(CHUNK_BYTES, size - done))


def _zero_chunks(size: int) -> Iterator[Chunk]:
    for done in range(0, size, CHUNK_BYTES):
        yield bytes(min(CHUNK_BYTES, size - done))
