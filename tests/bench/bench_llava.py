"""Measure training and answering of a LLaVA model of the tiny profile's size, each against the plain way.

Training: the bytes that autograd keeps of one batch and the time of a step, with nothing below the lowest trained block
differentiated, against the same recipe with embeddings that ask for a gradient (what transformers' gradient checkpointing sets up).
The program: a step of `lib.training`, pictures decoded and all, against forward, backward and update alone.
Answering: captions per second in batches against one conversation at a time, and so for a benchmark's short answers, with a picture
each, with four questions about a picture, and by the likeliest of four options; what is said has to be the same. Short answers about
one picture each are printed without a limit: on a CPU the reading of the prompt is most of the work, and no batch makes it less.

Call `OMP_NUM_THREADS=1 python -m tests.bench.bench_llava`. Times are seconds of the processor, the best of several runs.
"""

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from numpy.random import default_rng
from PIL import Image
from torch import Tensor, nn

from lib import blocks, datasets, files, generation, llava, recorder, runtime, training, training_plan
from lib.conversation import TEMPLATES, Sample, Turn
from lib.generation import Conversation, How
from lib.llava import Llava
from tests.tiny_llava import SENTENCES, train_tokenizer
from tests.tiny_training import write_plan

VISION = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "patch_size": 14, "image_size": 56,
}  # fmt: skip
TEXT = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 12, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}  # fmt: skip
NEW_BLOCKS = 2
SAMPLES, BATCH = 64, 16
CLIPS, ANSWER_TOKENS, SHORT_TOKENS = 32, 60, 12
PER_PICTURE, OPTIONS = 4, tuple(SENTENCES[:4])
RUNS = 5
LIMIT_BYTES, LIMIT_TIME, LIMIT_PROGRAM, LIMIT_ANSWERS = 0.65, 0.9, 1.25, 4.0


def write_world(folder: Path) -> Path:
    """Pictures of noise, conversations of about 60 + 90 tokens, and a model with random weights."""
    rng, sentences, samples = default_rng(0), itertools.cycle(SENTENCES), []
    for number in range(SAMPLES):
        paths = tuple(f"{extent}/{number}.jpg" for extent in ("local", "global"))
        for path in paths:
            (folder / "media" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (160, 256, 3), dtype="uint8")).save(folder / "media" / path)
        question, answer = (" ".join(itertools.islice(sentences, count)) for count in (2, 3))
        samples.append(asdict(Sample(str(number), (Turn("user", f"<image>\n{question}"), Turn("assistant", answer)), paths)))
    files.write_jsonl(folder / "train.jsonl", samples)
    files.write_jsonl(folder / "val.jsonl", samples[:1])
    tokenizer = train_tokenizer(folder / "tokenizer")
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id}
    model = llava.build({"vision": VISION, "text": {**TEXT, **ids}}, tokenizer.image_token_id, seed=0)
    llava.save(Llava(model, tokenizer), folder / "model")
    return folder


def load(world: Path) -> Llava:
    """The model with its new blocks and its head trained."""
    bundle = llava.load(world / "model", dtype="fp32", quantize="none")
    expansion = blocks.plan_expansion(TEXT["num_hidden_layers"] - NEW_BLOCKS, NEW_BLOCKS)
    blocks.freeze(bundle.model, expansion, blocks.TRAINED["blocks_and_head"])
    return bundle


def first_batch(bundle: Llava, world: Path) -> dict[str, Tensor]:
    """A batch of the training samples, prepared."""
    known = datasets.InstructionDataset(
        datasets.read_samples(world / "train.jsonl"), bundle=bundle, template=TEMPLATES["chatml_direct"],
        media_root=world / "media", resize="squash", max_length=512,
    )  # fmt: skip
    return datasets.Collator(bundle.tokenizer.pad_token_id)([known[index] for index in range(BATCH)])


def kept_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """What autograd keeps of one forward pass for the backward pass, weights left out, in bytes."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        loss = model(**batch).loss
    loss.backward()
    return sum(kept.values())


def step_seconds(model: nn.Module, batch: dict[str, Tensor]) -> float:
    """Forward, backward and update of one batch."""
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4, fused=True)

    def step() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    return best_seconds(step)


def measure_training(world: Path) -> dict[str, float]:
    """Bytes kept and seconds per step, and both as a share of the plain way's."""
    bundle = load(world)
    batch = first_batch(bundle, world)
    ours = kept_bytes(bundle.model, batch), step_seconds(bundle.model, batch)
    bundle.model.enable_input_require_grads()
    plain = kept_bytes(bundle.model, batch), step_seconds(bundle.model, batch)
    return {
        "tokens": batch["input_ids"].shape[1],
        "kept_mib": round(ours[0] / 2**20, 1),
        "plain_kept_mib": round(plain[0] / 2**20, 1),
        "kept_share": round(ours[0] / plain[0], 3),
        "step_seconds": round(ours[1], 4),
        "plain_step_seconds": round(plain[1], 4),
        "step_share": round(ours[1] / plain[1], 3),
        "program_share": round(program_seconds(world) / ours[1], 3),
    }


def program_seconds(world: Path) -> float:
    """A step of `lib.training`: the fastest epoch, divided by its steps."""
    per_epoch, ends = SAMPLES // BATCH, []

    class Clock(training.Schedule):
        def on_step_end(self, args: object, state: object, control: object, **_: object) -> object:
            ends.append(time.process_time())
            return control

    out = world / "program"
    changes = {"new_blocks": NEW_BLOCKS, "batch_size": BATCH, "max_length": 512, "epochs": RUNS, "log_every": per_epoch}
    plan = training_plan.read_plan(write_plan(world, out, **changes))
    original, training.Schedule, recorder.SHOWN_TOKENS = training.Schedule, Clock, 1
    try:
        training.train(plan)
    finally:
        training.Schedule = original
    return min(later - before for before, later in zip(ends[:-per_epoch], ends[per_epoch:], strict=True)) / per_epoch


def measure_answers(world: Path) -> dict[str, object]:
    """Answers per second of one conversation at a time and in batches, and whether they are the same, by kind of answer."""
    samples = datasets.read_samples(world / "train.jsonl")[:CLIPS]
    captions = How(
        template="chatml_direct", resize="squash", history="corrected", max_new_tokens=ANSWER_TOKENS, sample=False, temperature=1.0,
        sampling_seed=0, tries=1,
    )  # fmt: skip
    short = captions.model_copy(update={"template": "vicuna_v1", "resize": "pad", "max_new_tokens": SHORT_TOKENS})
    repeated = [samples[number // PER_PICTURE].pictures[:1] for number in range(CLIPS)]
    kinds = {
        "captions": (
            captions,
            [Conversation(one.id, one.pictures, (one.turns[0].text, "Describe the weather conditions.")) for one in samples],
        ),
        "short": (short, [Conversation(one.id, one.pictures[:1], (one.turns[0].text,)) for one in samples]),
        "repeated": (short, [Conversation(one.id, seen, (one.turns[0].text,)) for one, seen in zip(samples, repeated, strict=True)]),
        "chosen": (short, [Conversation(one.id, seen, (one.turns[0].text,), OPTIONS) for one, seen in zip(samples, repeated, strict=True)]),
    }
    bundle = llava.load(world / "model", dtype="fp32", quantize="none")
    figures = {}
    for kind, (how, asked) in kinds.items():
        figures |= {f"{kind}_{name}": value for name, value in compare_batches(bundle, world / "media", how, asked).items()}
    return figures


def compare_batches(bundle: Llava, media: Path, how: How, asked: list[Conversation]) -> dict[str, object]:
    """Answers per second in batches, one conversation at a time, their ratio, and whether the same was said."""
    said: dict[int, list] = {}

    def answer(batch: int) -> None:
        parts = (asked[start : start + batch] for start in range(0, CLIPS, batch))
        said[batch] = [row for part in parts for row in generation.answer_batch(bundle, part, media, how)]

    answers = sum(len(one.questions) for one in asked)
    rates = {batch: answers / best_seconds(lambda batch=batch: answer(batch), runs=2) for batch in (1, BATCH)}
    return {
        "per_second": round(rates[BATCH], 1),
        "one_by_one_per_second": round(rates[1], 1),
        "ratio": round(rates[BATCH] / rates[1], 2),
        "identical": said[1] == said[BATCH] and not any(row.failure for row in said[1]),
    }


def best_seconds(run: Callable[[], object], *, runs: int = RUNS) -> float:
    """The least processor time of several runs."""
    times = []
    for _ in range(runs):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


def main() -> int:
    """Print the figures and the limits; 1 when a limit is missed."""
    torch.set_num_threads(runtime.threads())
    with tempfile.TemporaryDirectory() as folder:
        world = write_world(Path(folder))
        figures = {"threads": torch.get_num_threads(), **measure_training(world), **measure_answers(world)}
    print(json.dumps(figures, indent=2))
    held = (
        figures["kept_share"] <= LIMIT_BYTES
        and figures["step_share"] <= LIMIT_TIME
        and figures["program_share"] <= LIMIT_PROGRAM
        and all(figures[f"{kind}_ratio"] >= LIMIT_ANSWERS for kind in ("captions", "repeated"))
        and all(value for name, value in figures.items() if name.endswith("_identical"))
    )
    print(
        f"limits: at most {LIMIT_BYTES} of the plain way's bytes and {LIMIT_TIME} of its time, a step of the program at most "
        f"{LIMIT_PROGRAM} of the bare one, at least {LIMIT_ANSWERS} times the answers, the same ones: {'held' if held else 'MISSED'}"
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
