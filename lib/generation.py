"""Answers of a LLaVA model to questions about pictures: in batches, over several processes, appended as they come, resumable.

A conversation is one set of pictures and its questions, asked one after the other with the earlier answers in the history; or it is
one question with the answers there are to choose from, and the likeliest is the answer (lib.choosing). In every process: `python -m lib.generation PLAN.json PART`. Sampling draws from a seed, the conversation's id and the place in the answer, so
that neither batches nor processes nor an interruption change what is said.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lib import runtime

if __name__ == "__main__":
    runtime.die_with_parent()

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lib import conversation, datasets, files, launch, llava, reading, records
from lib.choosing import Choice, choose
from lib.config import Quirk, Section
from lib.conversation import Sample
from lib.datasets import Collator, InstructionDataset
from lib.errors import ConfigError, DataError, KitError, StageFailed
from lib.llava import Llava, Resize
from lib.progress import Bar
from lib.training_plan import Positive

logger = logging.getLogger(__name__)

PROGRAM = "lib.generation"
TOP_K = 50  # of transformers, for a checkpoint that names none
Precision = Literal["nf4", "bf16", "fp32"]


@dataclass(frozen=True)
class Conversation:
    """What is asked about one set of pictures (paths below the media root), or about none: the questions in their order.

    With `choices` there is one question, and one of them is the answer.
    """

    id: str
    pictures: tuple[str, ...]
    questions: tuple[str, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """The raw answers in the order of the questions, markers and all; none, and the reason, where asking failed."""

    id: str
    answers: tuple[str, ...]
    failure: str = ""


class How(Section):
    """How questions are asked and answers drawn. Names as in config.yaml."""

    template: str
    resize: Resize
    history: Quirk  # as_published: earlier answers keep their end marker, which the template then writes again
    max_new_tokens: Positive
    sample: bool
    temperature: float
    sampling_seed: int
    tries: Positive


class Plan(Section):
    """One generation over several processes, written as JSON for them."""

    model: Path
    precision: Precision
    conversations: Path
    media_root: Path
    out: Path
    parts: Positive
    batch: Positive
    how: How


class DrawByPlace(LogitsProcessor):
    """Turns the arg-max into a draw from the softmax (Gumbel's trick), with noise from seed, conversation and place alone."""

    def __init__(self, seed: int, names: Sequence[str], start: int) -> None:
        self.seed, self.names, self.start = seed, names, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, T) and (B, V) to the scores (B, V) whose arg-max is the drawn token."""
        place = input_ids.shape[1] - self.start
        uniform = torch.stack([torch.rand(scores.shape[1], generator=self._generator(name, place)) for name in self.names])
        return scores - torch.log(-torch.log(uniform.clamp_min(1e-20))).to(scores)

    def _generator(self, name: str, place: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed} {name} {place}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))  # torch's generator takes 32 bits


def answer_all(load: Callable[[], Llava], conversations: Sequence[Conversation], plan: Plan, *, label: str) -> list[Answered]:
    """Every conversation's answers, in the order given; those an earlier attempt left in `plan.out` are not asked again.

    With one part the model is loaded here, with more each process loads it. Raises ConfigError for 4-bit weights without a GPU,
    StageFailed naming the part that failed or if nothing was answered at all, DataError if a part answered other conversations
    than its own.
    """
    if plan.precision == "nf4" and runtime.accelerator() == "cpu":
        raise ConfigError("infer.precision is nf4 (4-bit weights), which needs an NVIDIA GPU; on a CPU it must be fp32 or bf16")
    files.write_jsonl(plan.conversations, (asdict(one) for one in conversations))
    if plan.parts == 1:
        answer_part(load, plan, 0, label=label)
    else:
        files.write_json(plan.out / "plan.json", plan.model_dump(mode="json"))
        commands = [launch.command(PROGRAM, [str(plan.out / "plan.json"), str(part)], processes=1) for part in range(plan.parts)]
        launch.run_parts(commands, [plan.out / f"part-{part + 1}.log" for part in range(plan.parts)], what=label)
    answered = merge(conversations, plan)
    if answered and all(row.failure for row in answered):
        raise StageFailed(f"{label}: none of {len(answered)} conversations was answered; the first: {answered[0].failure}")
    return answered


def merge(conversations: Sequence[Conversation], plan: Plan) -> list[Answered]:
    """The parts' answers in the order of the conversations. Raises DataError naming the part and what it lacks or has beside."""
    found: dict[str, Answered] = {}
    for part in range(plan.parts):
        path = part_file(plan, part)
        own = {row.id: row for row in records.read_rows(path, Answered)} if path.is_file() else {}
        expected = {one.id for one in datasets.share(conversations, part, plan.parts)}
        if set(own) != expected:
            odd = sorted(set(own) ^ expected)
            raise DataError(
                f"{path}: {len(own)} conversations, {len(expected)} expected, the first that differs is {odd[0]!r}; "
                "delete the file and run 05-infer again"
            )
        found |= own
    return [found[one.id] for one in conversations]


def answer_part(load: Callable[[], Llava], plan: Plan, part: int, *, label: str) -> None:
    """Answer one process's share, appending each batch to its file; what an earlier attempt answered is left alone.

    A conversation that failed then is asked again, and its later row counts.
    """
    path = part_file(plan, part)
    share = datasets.share(records.read_rows(plan.conversations, Conversation), part, plan.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    files.cut_last_line(path)
    done = {row.id for row in records.read_rows(path, Answered) if not row.failure}
    waiting = sorted((one for one in share if one.id not in done), key=lambda one: one.pictures)  # what lib.reading reads once
    if not waiting:
        return
    bundle = load()
    with Bar(label, len(share)) as bar, path.open("a", encoding="utf-8") as stream:
        for start in range(0, len(waiting), plan.batch):
            for row in answer_batch(bundle, waiting[start : start + plan.batch], plan.media_root, plan.how):
                stream.write(json.dumps(asdict(row)) + "\n")  # an answer may hold any line end of Unicode's
            stream.flush()
            bar.at(len(done) + min(start + plan.batch, len(waiting)))


def part_file(plan: Plan, part: int) -> Path:
    """The file of one part's answers."""
    return plan.out / f"answers-{part + 1}-of-{plan.parts}.jsonl"


def answer_batch(bundle: Llava, batch: Sequence[Conversation], media_root: Path, how: How) -> list[Answered]:
    """One row per conversation. What fails as a batch is asked one by one, `tries` times; what still fails says why."""
    try:
        return _ask(bundle, batch, media_root, how)
    except (KitError, OSError, RuntimeError) as error:
        logger.warning("a batch of %d failed (%s); its conversations are asked one by one", len(batch), _line(error))
    return [_ask_alone(bundle, one, media_root, how) for one in batch]


def answer_samples(bundle: Llava, samples: Sequence[Sample], **how: object) -> list[str]:
    """The greedy answers to the first question of each sample, for looking on while a model trains."""
    media_root = how.pop("media_root")
    settings = How(history="corrected", sample=False, temperature=1.0, sampling_seed=0, tries=1, **how)
    asked = [Conversation(one.id, one.pictures, (one.turns[0].text,)) for one in samples]
    return [row.answers[0] for row in _ask(bundle, asked, media_root, settings)]


def measure_loss(bundle: Llava, known: InstructionDataset, *, batch: int, label: str) -> dict[str, float]:
    """Loss (nats) and accuracy per supervised token, each predicted from the true ones before it; and how many tokens that is."""
    collate, device = Collator(bundle.tokenizer.pad_token_id), bundle.model.device
    total, right, tokens = 0.0, 0, 0
    with torch.inference_mode(), Bar(label, len(known)) as bar:
        for start in range(0, len(known), batch):
            end = min(start + batch, len(known))
            given = {name: value.to(device) for name, value in collate([known[index] for index in range(start, end)]).items()}
            labels = given.pop("labels")[:, 1:]
            logits = bundle.model(**given).logits[:, :-1].float()
            counted = labels != conversation.IGNORED
            total += functional.cross_entropy(logits[counted], labels[counted], reduction="sum").item()
            right += int((logits.argmax(-1) == labels)[counted].sum())
            tokens += int(counted.sum())
            bar.at(end)
    return {"loss": total / tokens, "token accuracy": right / tokens, "tokens": float(tokens)}


def _ask_alone(bundle: Llava, one: Conversation, media_root: Path, how: How) -> Answered:
    for attempt in range(1, how.tries + 1):
        try:
            return _ask(bundle, [one], media_root, how)[0]
        except (KitError, OSError, RuntimeError) as error:
            logger.warning("%s: attempt %d of %d failed: %s", one.id, attempt, how.tries, _line(error))
            reason = _line(error)
    return Answered(one.id, (), reason)


def _ask(bundle: Llava, batch: Sequence[Conversation], media_root: Path, how: How) -> list[Answered]:
    """All questions of the batch's conversations: the first of each, then the second of those that have one, and so on."""
    template = conversation.TEMPLATES[how.template]
    views = _views(bundle, batch, media_root, how.resize)
    if any(one.choices for one in batch):
        questions = [Choice(one.questions[0], one.choices, own) for one, own in zip(batch, views, strict=True)]
        return [Answered(one.id, (text,)) for one, text in zip(batch, choose(bundle, questions, template), strict=True)]
    said: list[list[str]] = [[] for _ in batch]
    for turn in range(max(len(one.questions) for one in batch)):
        asked = [place for place, one in enumerate(batch) if turn < len(one.questions)]
        turns = [
            conversation.next_turns(batch[place].questions, said[place], template, history=how.history, pictured=len(views[place]) > 0)
            for place in asked
        ]
        prompts = [datasets.encode_prompt(bundle, own, template, views=len(views[at])) for own, at in zip(turns, asked, strict=True)]
        names = [f"{batch[place].id} {turn}" for place in asked]
        texts = _generate(bundle, prompts, [views[place] for place in asked], names, how)
        for place, text in zip(asked, texts, strict=True):
            said[place].append(text)
    return [Answered(one.id, tuple(answers)) for one, answers in zip(batch, said, strict=True)]


def _views(bundle: Llava, batch: Sequence[Conversation], media_root: Path, resize: Resize) -> list[Tensor]:
    """What the model sees in each conversation, (N, 3, S, S), N 0 without pictures; those that are asked about again are read once."""
    found: dict[tuple[str, ...], Tensor] = {(): torch.empty(0, 3, bundle.image_size, bundle.image_size)}
    for one in batch:
        if one.pictures not in found:
            found[one.pictures] = llava.pixel_values([media_root / path for path in one.pictures], bundle.image_size, resize)
    return [found[one.pictures] for one in batch]


def _generate(bundle: Llava, prompts: list[list[int]], views: Sequence[Tensor], names: Sequence[str], how: How) -> list[str]:
    """The answers as raw text, up to and with the end marker."""
    tokenizer, prepared = bundle.tokenizer, reading.prepare(bundle, prompts, views)
    start = prepared.input_ids.shape[1]
    # NOTE: not in torch.inference_mode: weights that ZeRO-3 gathers there could not be trained afterwards.
    found = bundle.model.generate(
        input_ids=prepared.input_ids,
        attention_mask=prepared.attention_mask,
        **prepared.seen,
        max_new_tokens=how.max_new_tokens,
        do_sample=False,  # the draw is made by DrawByPlace, so that it does not depend on the batch
        logits_processor=_drawing(bundle, names, start, how),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=bundle.end_id,
        use_cache=True,  # which a model that trains with gradient checkpointing has turned off
    )
    texts = []
    for row in found[:, start:].tolist():
        end = row.index(bundle.end_id) + 1 if bundle.end_id in row else len(row)
        texts.append(tokenizer.decode(row[:end], skip_special_tokens=False).strip())
    return texts


def _drawing(bundle: Llava, names: Sequence[str], start: int, how: How) -> LogitsProcessorList:
    """The checkpoint's own sampling values, the temperature of the settings, and the draw; nothing for greedy answers."""
    if not how.sample:
        return LogitsProcessorList()
    own = bundle.model.generation_config
    top_k = TOP_K if own.top_k is None else own.top_k
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(how.temperature)]
    steps += [TopKLogitsWarper(top_k)] if top_k else []
    steps += [TopPLogitsWarper(own.top_p)] if own.top_p and own.top_p < 1 else []
    return LogitsProcessorList([*steps, DrawByPlace(how.sampling_seed, names, start)])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main(arguments: list[str]) -> int:
    """Answer one part in a process of its own: PLAN.json PART; returns the exit status, an error is one line on stderr."""
    plan, part = Plan(**files.read_json(Path(arguments[0]))), int(arguments[1])
    torch.set_num_threads(max(1, runtime.threads() // plan.parts))
    if runtime.accelerator() == "cuda":
        torch.cuda.set_device(part % torch.cuda.device_count())
    try:
        answer_part(lambda: load_model(plan.model, plan.precision), plan, part, label=f"part {part + 1}")
    except KitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def load_model(folder: Path, precision: Precision) -> Llava:
    """The model of a folder on this machine's accelerator; 4-bit weights (nf4) are computed with in bf16."""
    if precision == "nf4":
        return llava.load(folder, dtype="bf16", quantize="nf4")
    return llava.load(folder, dtype=precision, quantize="none").to(runtime.accelerator())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
