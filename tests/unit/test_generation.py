"""Answers: the same whatever the batch and the process, continued after a kill, failures marked and nothing put in their place."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import GenerationConfig

from lib import conversation, datasets, generation, llava, runtime
from lib.config import Quirk
from lib.conversation import Turn
from lib.errors import ConfigError, DataError, StageFailed
from lib.generation import Answered, Conversation, DrawByPlace, How, Plan
from lib.llava import Llava
from tests.tiny_training import QUESTION, write_world

SECOND = "And the road, the weather and everything else around it?"
TOKENS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), train=7, val=3)


@pytest.fixture(scope="module")
def bundle(world: Path) -> Llava:
    return llava.load(world / "model", dtype="fp32", quantize="none")


@pytest.fixture(scope="module")
def asked(world: Path) -> list[Conversation]:
    """Two questions about each pair of pictures, of different lengths; some are asked the first one only."""
    known = datasets.read_samples(world / "train.jsonl")
    first = [f"{'Look well. ' * (number % 3)}{QUESTION}" for number in range(len(known))]
    return [Conversation(one.id, one.pictures, (first[n], SECOND)[: 1 + (n != 2)]) for n, one in enumerate(known)]


def how(*, sample: bool = False, history: Quirk = "corrected", tries: int = 1, seed: int = 5, temperature: float = 0.9) -> How:
    return How(
        template="chatml_direct", resize="squash", history=history, max_new_tokens=TOKENS, sample=sample, temperature=temperature,
        sampling_seed=seed, tries=tries,
    )  # fmt: skip


def plan_in(out: Path, world: Path, *, parts: int = 1, batch: int = 3, given: How | None = None, precision: str = "fp32") -> Plan:
    return Plan(
        model=world / "model", precision=precision, conversations=out / "conversations.jsonl", media_root=world / "media", out=out,
        parts=parts, batch=batch, how=given or how(),
    )  # fmt: skip


def never() -> Llava:
    raise AssertionError("the model was loaded though everything was answered")


def answered(bundle: Llava, asked: list[Conversation], world: Path, given: How, *, batch: int) -> list[Answered]:
    groups = [asked[start : start + batch] for start in range(0, len(asked), batch)]
    return [row for group in groups for row in generation.answer_batch(bundle, group, world / "media", given)]


# --- what is said ---


@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "drawn"])
def test_answers_do_not_depend_on_the_batch(bundle: Llava, asked: list[Conversation], world: Path, sample: bool):
    alone = answered(bundle, asked, world, how(sample=sample), batch=1)
    assert alone == answered(bundle, asked, world, how(sample=sample), batch=4)
    assert [len(row.answers) for row in alone] == [2, 2, 1, 2, 2, 2, 2]
    assert not any(row.failure for row in alone)


def test_greedy_answers_are_the_most_likely_tokens_one_after_the_other(bundle: Llava, asked: list[Conversation], world: Path):
    (row,) = generation.answer_batch(bundle, asked[2:3], world / "media", how())
    turns = conversation.dialogue(asked[2].questions, [])
    template = conversation.TEMPLATES["chatml_direct"]
    ids = datasets.encode_prompt(bundle, turns, template, views=2)
    start = len(ids)
    pixels = llava.pixel_values([world / "media" / path for path in asked[2].pictures], bundle.image_size, "squash")
    for _ in range(TOKENS):
        with torch.no_grad():
            ids.append(int(bundle.model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0, -1].argmax()))
    assert row.answers == (bundle.tokenizer.decode(ids[start:]).strip(),)


def test_the_seed_decides_what_is_drawn(bundle: Llava, asked: list[Conversation], world: Path):
    one, same, other = (answered(bundle, asked[:3], world, how(sample=True, seed=seed), batch=3) for seed in (5, 5, 6))
    assert one == same != other


def test_an_answer_ends_with_its_marker(bundle: Llava, asked: list[Conversation], world: Path):
    forced = dataclasses.replace(bundle, model=FixedModel(bundle, "dry<|im_end|>road"))
    (row,) = generation.answer_batch(forced, asked[2:3], world / "media", how())
    assert row.answers == ("dry<|im_end|>",)


class FixedModel:
    """Stands for a model that always says the same; keeps the prompts."""

    def __init__(self, bundle: Llava, said: str) -> None:
        self.tokens = bundle.tokenizer(said, add_special_tokens=False)["input_ids"]
        self.prompts, self.tokenizer = [], bundle.tokenizer
        self.config, self.device, self.dtype = bundle.model.config, bundle.model.device, bundle.model.dtype
        self.generation_config = bundle.model.generation_config

    def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        self.prompts.append(self.tokenizer.decode(input_ids[0]))
        return torch.cat([input_ids, torch.tensor([self.tokens] * len(input_ids))], dim=1)


@pytest.mark.parametrize(("history", "earlier"), [("as_published", "dry<|im_end|><|im_end|>"), ("corrected", "dry<|im_end|>")])
def test_the_second_question_sees_the_first_answer(bundle: Llava, asked: list[Conversation], world: Path, history: Quirk, earlier: str):
    model = FixedModel(bundle, "dry<|im_end|>")
    generation.answer_batch(dataclasses.replace(bundle, model=model), asked[:1], world / "media", how(history=history))
    first, second = (prompt.replace(bundle.tokenizer.image_token, "") for prompt in model.prompts)
    assert second == f"{first}{earlier}<|im_start|>user\n{SECOND}<|im_end|><|im_start|>assistant\n"


# --- the draw ---


def draws(temperature: float, names: list[str]) -> torch.Tensor:
    """How often each of four tokens is drawn at 3,000 places, against their logits 0, 1, 2 and -inf."""
    scores = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]]).repeat(len(names), 1) / temperature
    draw = DrawByPlace(1, names, 0)
    found = torch.cat([draw(torch.zeros((len(names), place)), scores).argmax(dim=1) for place in range(3000 // len(names))])
    return torch.bincount(found, minlength=4) / len(found)


def test_tokens_are_drawn_as_often_as_the_softmax_says():
    expected = functional.softmax(torch.tensor([0.0, 1.0, 2.0, -torch.inf]), dim=0)
    torch.testing.assert_close(draws(1.0, ["a", "b"]), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(draws(0.2, ["a"]), torch.tensor([0.0, 0.007, 0.993, 0.0]), atol=0.01, rtol=0)


def test_a_draw_depends_on_its_conversation_and_place_alone():
    scores = torch.zeros((1, 300))
    alone = DrawByPlace(1, ["b 0"], 10)(torch.zeros((1, 15)), scores)
    beside = DrawByPlace(1, ["a 0", "b 0", "b 1"], 2)(torch.zeros((3, 7)), scores.repeat(3, 1))
    assert torch.equal(alone[0], beside[1])
    assert not torch.equal(beside[1], beside[0]) and not torch.equal(beside[1], beside[2])
    assert not torch.equal(alone, DrawByPlace(1, ["b 0"], 10)(torch.zeros((1, 16)), scores))


def test_the_checkpoints_own_sampling_values_hold(bundle: Llava, asked: list[Conversation], world: Path):
    own = bundle.model.generation_config
    try:
        bundle.model.generation_config = GenerationConfig(top_k=1)
        single = answered(bundle, asked[:2], world, how(sample=True), batch=2)
        bundle.model.generation_config = GenerationConfig(top_p=1e-6)
        narrow = answered(bundle, asked[:2], world, how(sample=True), batch=2)
    finally:
        bundle.model.generation_config = own
    assert single == narrow == answered(bundle, asked[:2], world, how(), batch=2)


# --- failures ---


def broken(world: Path, asked: list[Conversation]) -> list[Conversation]:
    """The second conversation gets a picture that is cut off."""
    whole = (world / "media" / asked[1].pictures[0]).read_bytes()
    (world / "media/broken.jpg").write_bytes(whole[: len(whole) // 2])
    return [asked[0], dataclasses.replace(asked[1], pictures=("broken.jpg", asked[1].pictures[1])), asked[3]]


def test_a_broken_picture_fails_its_own_conversation_only(bundle: Llava, asked: list[Conversation], world: Path):
    rows = answered(bundle, broken(world, asked), world, how(tries=2), batch=3)
    expected = answered(bundle, asked, world, how(), batch=1)
    assert (rows[0], rows[2]) == (expected[0], expected[3])
    assert (rows[1].id, rows[1].answers) == (asked[1].id, ())
    assert rows[1].failure.startswith(f"{world / 'media/broken.jpg'}: not a whole picture (")


def test_a_conversation_that_fails_is_asked_as_often_as_the_settings_say(
    bundle: Llava, asked: list[Conversation], world: Path, monkeypatch: pytest.MonkeyPatch
):
    attempts: list[int] = []

    def fail_first(*given: object) -> list[Answered]:
        attempts.append(len(given[1]))
        if len(attempts) <= 3:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return [Answered(one.id, ("dry",)) for one in given[1]]

    monkeypatch.setattr(generation, "_ask", fail_first)
    rows = generation.answer_batch(bundle, asked[:2], world / "media", how(tries=2))
    assert rows == [Answered(asked[0].id, (), "CUDA out of memory. Tried to allocate"), Answered(asked[1].id, ("dry",))]
    assert attempts == [2, 1, 1, 1]


def test_if_nothing_is_answered_the_first_reason_is_told(world: Path, asked: list[Conversation], bundle: Llava, tmp_path: Path):
    gone = [dataclasses.replace(one, pictures=("gone.jpg",)) for one in asked[:2]]
    with pytest.raises(StageFailed) as caught:
        generation.answer_all(lambda: bundle, gone, plan_in(tmp_path, world), label="asking")
    assert str(caught.value) == (
        f"asking: none of 2 conversations was answered; the first: {world / 'media/gone.jpg'}: no such picture; "
        "run the stage that renders it again"
    )


def test_four_bit_weights_need_a_gpu(world: Path, asked: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "accelerator", lambda: "cpu")
    with pytest.raises(ConfigError) as caught:
        generation.answer_all(never, asked, plan_in(tmp_path, world, precision="nf4"), label="asking")
    assert str(caught.value) == "infer.precision is nf4 (4-bit weights), which needs an NVIDIA GPU; on a CPU it must be fp32 or bf16"
    assert list(tmp_path.iterdir()) == []


# --- files, parts and resumption ---


def answer_in_parts(world: Path, asked: list[Conversation], bundle: Llava, plan: Plan) -> list[Answered]:
    """What the processes of a plan do, one after the other."""
    generation.files.write_jsonl(plan.conversations, map(dataclasses.asdict, asked))
    for part in range(plan.parts):
        generation.answer_part(lambda: bundle, plan, part, label="part")
    return generation.merge(asked, plan)


@pytest.mark.parametrize(("parts", "batch"), [(2, 2), (3, 5), (9, 1)])
def test_parts_answer_what_one_process_answers(
    bundle: Llava, asked: list[Conversation], world: Path, tmp_path: Path, parts: int, batch: int
):
    given = how(sample=True)
    whole = generation.answer_all(lambda: bundle, asked, plan_in(tmp_path / "whole", world, given=given), label="asking")
    plan = plan_in(tmp_path / "parts", world, parts=parts, batch=batch, given=given)
    assert answer_in_parts(world, asked, bundle, plan) == whole
    assert [row.id for row in whole] == [one.id for one in asked]


def test_what_is_answered_is_not_asked_again(bundle: Llava, asked: list[Conversation], world: Path, tmp_path: Path):
    plan = plan_in(tmp_path, world)
    first = generation.answer_all(lambda: bundle, asked, plan, label="asking")
    assert generation.answer_all(never, asked, plan, label="asking") == first


def test_killed_in_the_middle_of_a_line_it_goes_on_there(bundle: Llava, asked: list[Conversation], world: Path, tmp_path: Path):
    plan = plan_in(tmp_path, world)
    first = generation.answer_all(lambda: bundle, asked, plan, label="asking")
    path = generation.part_file(plan, 0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:-9])
    assert generation.answer_all(lambda: bundle, asked, plan, label="asking") == first
    assert path.read_bytes() == b"".join(lines)


def test_an_answer_may_hold_any_character(bundle: Llava, asked: list[Conversation], world: Path, tmp_path: Path):
    odd = dataclasses.replace(bundle, model=FixedModel(bundle, "a\u2028b\x85c\x0cd 漢<|im_end|>"))
    rows = generation.answer_all(lambda: odd, asked[2:3], plan_in(tmp_path, world), label="asking")
    assert rows == [Answered(asked[2].id, ("a\u2028b\x85c\x0cd 漢<|im_end|>",))]


def test_nothing_to_ask_is_answered_with_nothing(world: Path, tmp_path: Path):
    assert generation.answer_all(never, [], plan_in(tmp_path, world), label="asking") == []


def test_what_failed_is_asked_again_by_the_next_attempt(bundle: Llava, asked: list[Conversation], world: Path, tmp_path: Path):
    plan, some = plan_in(tmp_path, world), broken(world, asked)
    rows = generation.answer_all(lambda: bundle, some, plan, label="asking")
    assert [bool(row.failure) for row in rows] == [False, True, False]
    (world / "media/broken.jpg").write_bytes((world / "media" / asked[1].pictures[0]).read_bytes())
    again = generation.answer_all(lambda: bundle, some, plan, label="asking")
    assert (again[0], again[2]) == (rows[0], rows[2])
    assert again[1].answers and not again[1].failure


def odd_id(change: Callable[[list[dict]], list[dict]], plan: Plan, asked: list[Conversation]) -> str:
    path = generation.part_file(plan, 0)
    path.write_text("".join(json.dumps(row) + "\n" for row in change([json.loads(line) for line in path.read_text().splitlines()])))
    with pytest.raises(DataError) as caught:
        generation.merge(asked, plan)
    return str(caught.value)


def test_a_part_with_other_conversations_than_its_own_is_refused(bundle: Llava, asked: list[Conversation], world: Path, tmp_path: Path):
    plan = plan_in(tmp_path, world)
    generation.answer_all(lambda: bundle, asked, plan, label="asking")
    path = generation.part_file(plan, 0)
    tail = "delete the file and run 05-infer again"
    assert odd_id(lambda rows: rows[:-1], plan, asked) == f"{path}: 6 conversations, 7 expected, the first that differs is 's6'; {tail}"
    assert odd_id(lambda rows: [*rows, {**rows[0], "id": "a9"}], plan, asked) == (
        f"{path}: 7 conversations, 7 expected, the first that differs is 'a9'; {tail}"
    )


def test_a_part_is_a_program_of_its_own(world: Path, asked: list[Conversation], bundle: Llava, tmp_path: Path):
    plan = plan_in(tmp_path, world, parts=2)
    generation.files.write_jsonl(plan.conversations, map(dataclasses.asdict, asked))
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert generation.main([str(tmp_path / "plan.json"), "1"]) == 0
    found = generation.records.read_rows(generation.part_file(plan, 1), Answered)
    assert found == answered(bundle, asked[1::2], world, how(), batch=3)


def test_the_programs_error_is_one_line(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plan = plan_in(tmp_path, world)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert generation.main([str(tmp_path / "plan.json"), "0"]) == 1
    assert capsys.readouterr().err.startswith(f"{plan.conversations}: no such file")


# --- looking on, and measuring ---


def test_samples_are_answered_greedily_for_looking_on(bundle: Llava, asked: list[Conversation], world: Path):
    known = datasets.read_samples(world / "train.jsonl")[:2]
    said = generation.answer_samples(
        bundle, known, template="chatml_direct", resize="squash", media_root=world / "media", max_new_tokens=TOKENS
    )
    first = [dataclasses.replace(one, questions=(QUESTION,)) for one in asked[:2]]
    assert said == [row.answers[0] for row in answered(bundle, first, world, how(), batch=1)]


def test_loss_and_accuracy_are_per_trained_token_whatever_the_batch(bundle: Llava, world: Path):
    known = datasets.InstructionDataset(
        datasets.read_samples(world / "train.jsonl"), bundle=bundle, template=conversation.TEMPLATES["chatml_direct"],
        media_root=world / "media", resize="squash", max_length=256,
    )  # fmt: skip
    total, right, tokens = 0.0, 0, 0
    for index in range(len(known)):
        batch = datasets.Collator(0)([known[index]])
        labels = batch.pop("labels")[0, 1:]
        with torch.no_grad():
            logits = bundle.model(**batch).logits[0, :-1]
        for place in (labels != conversation.IGNORED).nonzero()[:, 0].tolist():
            total -= float(functional.log_softmax(logits[place], dim=0)[labels[place]])
            right += int(logits[place].argmax() == labels[place])
            tokens += 1
    for size in (1, 3, 100):
        found = generation.measure_loss(bundle, known, batch=size, label="measuring")
        assert found == pytest.approx({"loss": total / tokens, "token accuracy": right / tokens, "tokens": tokens}, rel=1e-5)


def test_a_sample_without_picture_is_measured_and_asked(bundle: Llava, world: Path):
    plain = conversation.Sample("text", (Turn("user", QUESTION), Turn("assistant", "It is dry.")), ())
    known = datasets.InstructionDataset(
        [plain], bundle=bundle, template=conversation.TEMPLATES["chatml_direct"], media_root=world / "media", resize="squash",
        max_length=256,
    )  # fmt: skip
    assert generation.measure_loss(bundle, known, batch=1, label="measuring")["tokens"] > 3
