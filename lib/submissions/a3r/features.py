"""Features of pictures and texts from the two towers, in this process or sharded over several, resumable shard by shard.

D is the width of the joint space. Features are float32 and not normalised, as the published inference leaves them.
"""

import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib import files, launch, models, runtime
from lib.errors import KitError
from lib.models import OpenClip
from lib.progress import Bar
from lib.submissions.a3r import pictures
from lib.submissions.a3r.pictures import Padding
from lib.submissions.a3r.ranking import split_range
from lib.submissions.a3r.settings import Machine

PROGRAM = "lib.submissions.a3r.features"


@dataclass(frozen=True)
class Encoder:
    """A model ready to encode: its name in tables, where its weights came from, and the padding of its pictures."""

    name: str
    weights: str
    model: str | dict | None
    padding: Padding
    bundle: OpenClip


@dataclass(frozen=True)
class Job:
    """Which pictures a shard encodes; `part` of `parts` is this process's share. Written as JSON for child processes."""

    weights: str
    model: str | dict | None
    padding: Padding
    folder: str
    names: list[str]
    flip: bool
    batch: int
    workers: int
    out: str
    parts: int


def load_encoder(name: str, weights: Path | str, *, model: str | dict | None, padding: Padding) -> Encoder:
    """Load weights onto the machine's accelerator, or its CPU. Raises what `models.load_open_clip` raises."""
    bundle = models.load_open_clip(weights, model=model, device=runtime.accelerator())
    return Encoder(name, str(weights), model, padding, bundle)


def encode_texts(bundle: OpenClip, texts: Sequence[str], *, batch: int) -> Tensor:
    """(N, D) features of N texts, on the CPU."""
    device = next(bundle.model.parameters()).device
    parts = []
    with torch.inference_mode(), Bar("encoding texts", len(texts)) as bar:
        for start in range(0, len(texts), batch):
            bar.at(start)
            ids = bundle.tokenizer(list(texts[start : start + batch])).to(device)  # (B, 77)
            parts.append(bundle.model.encode_text(ids).float().cpu())
    return torch.cat(parts)


def encode_pictures(encoder: Encoder, folder: Path, names: Sequence[str], *, batch: int, workers: int, flip: bool = False) -> Tensor:
    """(N, D) features of N pictures of a folder, mirrored left to right with `flip`, on the CPU. Raises DataError for a bad picture."""
    transform = pictures.with_padding(encoder.bundle.eval_transform, encoder.padding)
    return _encode(encoder.bundle, _Pictures(folder, names, transform, flip), batch, workers)


def encode_gallery(encoder: Encoder, folder: Path, names: Sequence[str], out: Path, machine: Machine, *, flip: bool = False) -> Tensor:
    """(N, D) features of the gallery, encoded in as many processes as `machine.shards`; what an earlier attempt left is used."""
    parts = machine.shards
    job = Job(
        encoder.weights,
        encoder.model,
        encoder.padding,
        str(folder),
        list(names),
        flip,
        machine.image_batch,
        machine.workers,
        str(out),
        parts,
    )
    if parts == 1:
        encode_part(job, 0, encoder=encoder)
    else:
        _encode_in_processes(job)
    return torch.from_numpy(np.concatenate([np.load(_part_file(job, part)) for part in range(parts)]))


def _encode_in_processes(job: Job) -> None:
    """One child process per part."""
    out = Path(job.out)
    files.write_json(out / "job.json", dataclasses.asdict(job))
    commands = [launch.command(PROGRAM, [str(out / "job.json"), str(part)], processes=1) for part in range(job.parts)]
    launch.run_parts(commands, [out / f"part-{part}.log" for part in range(job.parts)], what="encoding")


def encode_part(job: Job, part: int, *, encoder: Encoder | None = None) -> Path:
    """Encode one share of the gallery, unless its file is there from an earlier attempt; the file is written whole or not at all."""
    path = _part_file(job, part)
    share = split_range(len(job.names), job.parts)[part]
    if path.is_file():
        return path
    encoder = encoder or load_encoder("shard", _weights(job.weights), model=job.model, padding=job.padding)
    names = job.names[share.start : share.stop]
    found = encode_pictures(encoder, Path(job.folder), names, batch=job.batch, workers=job.workers, flip=job.flip)
    content = io.BytesIO()
    np.save(content, found.numpy())
    files.write_bytes(path, content.getvalue())
    return path


class _Pictures(Dataset):
    """Pictures of a folder as model input (3, S, S)."""

    def __init__(self, folder: Path, names: Sequence[str], transform: Callable, flip: bool) -> None:
        self.folder, self.names, self.transform, self.flip = folder, list(names), transform, flip

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        prepared = self.transform(pictures.read_picture(self.folder / self.names[index]))
        return prepared.flip(-1) if self.flip else prepared


def _encode(bundle: OpenClip, data: Dataset, batch: int, workers: int) -> Tensor:
    device = next(bundle.model.parameters()).device
    parts, done = [], 0
    with torch.inference_mode(), Bar("encoding pictures", len(data)) as bar:
        for images in _loaded(data, batch, workers):
            parts.append(bundle.model.encode_image(images.to(device)).float().cpu())  # (B, D)
            done += len(images)
            bar.at(done)
    return torch.cat(parts)


def _loaded(data: Dataset, batch: int, workers: int) -> Iterator[Tensor]:
    """The data in batches; an error of a worker process is raised as it was there, without the traceback torch wraps it into."""
    try:
        yield from DataLoader(data, batch_size=batch, num_workers=workers)
    except KitError as error:
        last = str(error).splitlines()[-1]
        raise type(error)(last.partition(f"{type(error).__name__}: ")[2] or last) from None


def _part_file(job: Job, part: int) -> Path:
    mirrored = "-mirrored" if job.flip else ""
    return Path(job.out) / f"pictures{mirrored}-{part + 1}-of-{job.parts}.npy"


def _weights(text: str) -> Path | str:
    return Path(text) if Path(text).exists() else text


def main(arguments: list[str]) -> int:
    """Encode one part in a process of its own: JOB.json PART; returns the exit status, an error is one line on stderr."""
    runtime.die_with_parent()
    job, part = Job(**json.loads(files.read_text(Path(arguments[0])))), int(arguments[1])
    torch.set_num_threads(max(1, runtime.threads() // job.parts))
    if runtime.accelerator() == "cuda":
        torch.cuda.set_device(part % torch.cuda.device_count())  # "cuda" alone would be the first GPU for every part
    try:
        encode_part(job, part)
    except KitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
