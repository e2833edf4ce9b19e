"""Samples for a LLaVA model: encoded and prepared one by one, collated in batches, and the order in which they are trained.

B samples of a batch, T tokens, N views of all their pictures, S the side of a view in pixels.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from lib import conversation, llava, records
from lib.conversation import IGNORED, Encoded, Sample, Template, Turn
from lib.errors import DataError
from lib.llava import Llava, Resize

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


def read_samples(path: Path) -> list[Sample]:
    """The samples of a JSON-lines file. Raises DataError with the row and the field that does not fit."""
    return records.read_rows(path, Sample)


class InstructionDataset(Dataset):
    """Samples to train on. One with nothing to train is left out: `dropped` says which and why, `samples` are those kept.

    Raises DataError if none is kept, and for a picture that cannot be read.
    """

    def __init__(
        self, samples: Sequence[Sample], *, bundle: Llava, template: Template, media_root: Path, resize: Resize, max_length: int
    ) -> None:
        # NOTE: not the bundle itself, whose model would be copied into every worker of a loader.
        self.tokenizer, self.image_size, self.image_tokens = bundle.tokenizer, bundle.image_size, bundle.image_tokens
        self.template, self.media_root, self.resize, self.max_length = template, media_root, resize, max_length
        self.dropped: dict[str, str] = {}
        self.samples = [sample for sample in samples if self._is_trainable(sample)]
        if self.dropped:
            (name, reason), *_ = self.dropped.items()
            logger.warning("%d of %d samples are not trained; the first is %s: %s", len(self.dropped), len(samples), name, reason)
        if not self.samples:
            raise DataError(f"none of {len(samples)} samples can be trained; {_first(self.dropped)}")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        """input_ids and labels (lists of T), pixel_values (N, 3, S, S), or None without pictures."""
        sample = self.samples[index]
        paths = self._paths(sample)
        pixels = llava.pixel_values(paths, self.image_size, self.resize) if paths else None
        encoded = self._encode(sample, 0 if pixels is None else len(pixels))
        return {"input_ids": encoded.input_ids, "labels": encoded.labels, "pixel_values": pixels}

    @property
    def lengths(self) -> list[int]:
        """Words of each sample over all its turns, negative for one without pictures: what the published order goes by."""
        return [count_words(sample) for sample in self.samples]

    def _paths(self, sample: Sample) -> list[Path]:
        return [self.media_root / name for name in sample.pictures]

    def _encode(self, sample: Sample, views: int) -> Encoded:
        rendered = conversation.render(sample.turns, self.template)
        return conversation.encode(rendered, self.tokenizer, views * self.image_tokens, self.max_length)

    def _is_trainable(self, sample: Sample) -> bool:
        views = llava.count_views(self._paths(sample), self.image_size, self.resize)
        try:
            encoded = self._encode(sample, views)
        except DataError as error:
            self.dropped[sample.id] = str(error)
            return False
        if not encoded.supervised:
            self.dropped[sample.id] = f"no answer within {self.max_length} tokens"
        return bool(encoded.supervised)


def encode_prompt(bundle: Llava, turns: Sequence[Turn], template: Template, *, views: int) -> list[int]:
    """Ids up to where the next answer begins. Raises DataError if they are more than the model has positions."""
    rendered = conversation.prompt(turns, template)
    limit = bundle.model.config.text_config.max_position_embeddings
    return conversation.encode(rendered, bundle.tokenizer, views * bundle.image_tokens, limit).input_ids


def untrained_picture(bundle: Llava) -> dict:
    """A sample as of `InstructionDataset` with one picture of zeros and nothing else, in which no token is trained."""
    tokens, size = bundle.image_tokens, bundle.image_size
    return {
        "input_ids": [bundle.tokenizer.image_token_id] * tokens,
        "labels": [IGNORED] * tokens,
        "pixel_values": torch.zeros(1, 3, size, size),
    }


@dataclass(frozen=True)
class Collator:
    """Joins samples into a batch to train on, padded on the right. Where none has a picture, `beside` comes in as one row more."""

    pad_token_id: int
    beside: dict | None = None

    def __call__(self, samples: Sequence[dict]) -> dict[str, Tensor]:
        """input_ids, attention_mask, labels (B, T) and, if there is any picture, pixel_values (N, 3, S, S)."""
        if self.beside is not None and all(sample["pixel_values"] is None for sample in samples):
            samples = [*samples, self.beside]
        rows = [sample["input_ids"] for sample in samples]
        length = max(map(len, rows))
        batch = {
            "input_ids": torch.tensor([row + [self.pad_token_id] * (length - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
            "labels": torch.tensor([sample["labels"] + [IGNORED] * (length - len(sample["labels"])) for sample in samples]),
        }
        pixels = [sample["pixel_values"] for sample in samples if sample["pixel_values"] is not None]
        return batch | ({"pixel_values": torch.cat(pixels)} if pixels else {})


def pad_left(prompts: Sequence[list[int]], pad_token_id: int) -> dict[str, Tensor]:
    """input_ids and attention_mask (B, T) of prompts to be continued, so padded on the left."""
    length = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[pad_token_id] * (length - len(row)) + row for row in prompts]),
        "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in prompts]),
    }


def count_words(sample: Sample) -> int:
    """Words, parted by blanks, of all turns; negative without pictures. At least one, so that the sign is known."""
    words = max(1, sum(len(turn.text.split()) for turn in sample.turns))
    return words if sample.pictures else -words


def share(items: Sequence[Item], part: int, parts: int) -> Sequence[Item]:
    """What one of several processes takes: every `parts`-th item from `part` (0-based); shares differ by one item at most."""
    return items[part::parts]


class SampleOrder(Sampler[int]):
    """The order of an epoch, the same in every process: drawn from seed and epoch, grouped by length if asked to.

    `world` is processes x accumulation. The Trainer calls `set_epoch`.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, world: int, seed: int, *, grouped: bool) -> None:
        self.lengths, self.batch_size, self.world, self.seed, self.grouped, self.epoch = lengths, batch_size, world, seed, grouped, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of another epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = Generator().manual_seed(self.seed + self.epoch)
        if not self.grouped:
            return iter(torch.randperm(len(self.lengths), generator=generator).tolist())
        return iter(group_by_modality(self.lengths, self.batch_size, self.world, generator))


def group_by_modality(lengths: Sequence[int], batch_size: int, world: int, generator: Generator) -> list[int]:
    """Indices such that samples with pictures (length > 0) and without (length < 0) do not share a megabatch, as in LLaVA.

    Only the last megabatch, made of what is left of both, is mixed.
    """
    kinds = [[i for i, length in enumerate(lengths) if length > 0], [i for i, length in enumerate(lengths) if length < 0]]
    if not all(kinds):
        return group_by_length(lengths, batch_size, world, generator)
    whole, rest = [], []
    for kind in kinds:
        order = [kind[i] for i in group_by_length([abs(lengths[i]) for i in kind], batch_size, world, generator)]
        *megabatches, last = _chunks(order, batch_size * world)
        whole += megabatches
        rest += last
    shuffled = torch.randperm(len(whole), generator=generator).tolist()
    return [index for i in shuffled for index in whole[i]] + sorted(rest)


def group_by_length(lengths: Sequence[int], batch_size: int, world: int, generator: Generator) -> list[int]:
    """Indices in random megabatches of batch_size x world samples, each sorted from long to short and dealt out evenly."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    grouped = []
    for megabatch in _chunks(order, batch_size * world):
        by_length = sorted(megabatch, key=lambda index: lengths[index], reverse=True)
        grouped += [index for chunk in deal_evenly(by_length, lengths, world) for index in chunk]
    return grouped


def deal_evenly(indices: Sequence[int], lengths: Sequence[int], chunks: int) -> list[list[int]]:
    """The indices in equally many per chunk, each given to the chunk with the least length so far; round about if that is not even."""
    if len(indices) % chunks:
        return [list(indices[start::chunks]) for start in range(chunks)]
    dealt: list[list[int]] = [[] for _ in range(chunks)]
    totals = [0] * chunks
    for index in indices:
        open_chunks = [chunk for chunk in range(chunks) if len(dealt[chunk]) < len(indices) // chunks]
        chunk = min(open_chunks, key=lambda chunk: totals[chunk])
        dealt[chunk].append(index)
        totals[chunk] += lengths[index]
    return dealt


def _chunks(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _first(dropped: dict[str, str]) -> str:
    return next((f"the first is {name}: {reason}" for name, reason in dropped.items()), "the list is empty")
