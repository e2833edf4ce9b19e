"""Chat templates: the text of a conversation, where its answers are, and which tokens are trained."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from lib.conversation import (
    CHATML_DIRECT,
    IGNORED,
    IMAGE,
    PLAIN,
    TEMPLATES,
    VICUNA_V1,
    Encoded,
    Rendered,
    Template,
    Turn,
    dialogue,
    encode,
    move_image_first,
    prompt,
    read_turns,
    render,
)
from lib.errors import DataError
from tests.tiny_llava import train_tokenizer

SYSTEM = "<|im_start|>system\nAnswer the questions.<|im_end|>"
QUESTION, ANSWER = Turn("user", "<image>\nWhere is it?"), Turn("assistant", "On the right.")
AGAIN, MORE = Turn("user", "How fast?"), Turn("assistant", "At 20 km/h.")
FAR = 10_000  # tokens: nothing is cut

TEXTS = st.text(st.sampled_from("abdehinorstv ABT.,'/<|>\n\té漢"), max_size=30)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def written(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    """The text of these tokens, read from their pieces: `decode` would tidy the blanks."""
    content = b""
    for piece in tokenizer.convert_ids_to_tokens(ids):
        is_byte = piece.startswith("<0x") and len(piece) == 6
        content += bytes([int(piece[3:5], 16)]) if is_byte else piece.replace("▁", " ").encode()
    return content.decode()


def trained_texts(encoded: Encoded, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The text of each run of trained tokens."""
    runs: list[list[int]] = []
    for before, label in zip([IGNORED, *encoded.labels], encoded.labels, strict=False):
        if label != IGNORED:
            runs += [[]] if before == IGNORED else []
            runs[-1].append(label)
    return [written(run, tokenizer) for run in runs]


def refusal(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    return str(caught.value)


# --- the text ---


def test_a_conversation_has_no_line_end_between_its_turns():
    assert render([QUESTION, ANSWER, AGAIN, MORE], CHATML_DIRECT).text == (
        f"{SYSTEM}<|im_start|>user\n<image>\nWhere is it?<|im_end|><|im_start|>assistant\nOn the right.<|im_end|>"
        "<|im_start|>user\nHow fast?<|im_end|><|im_start|>assistant\nAt 20 km/h.<|im_end|>"
    )


def test_answers_are_found_with_their_closing():
    rendered = render([QUESTION, ANSWER, AGAIN, MORE], CHATML_DIRECT)
    assert [rendered.text[begin:end] for begin, end in rendered.answers] == ["On the right.<|im_end|>", "At 20 km/h.<|im_end|>"]


def test_a_prompt_ends_where_the_answer_begins_and_keeps_earlier_answers_as_they_are():
    raw = Turn("assistant", "<|startoftext|> On the right.<|im_end|>")
    asked = prompt([QUESTION, raw, AGAIN], CHATML_DIRECT)
    assert asked.answers == ()
    assert asked.text == (
        f"{SYSTEM}<|im_start|>user\n<image>\nWhere is it?<|im_end|><|im_start|>assistant\n<|startoftext|> On the right.<|im_end|><|im_end|>"
        "<|im_start|>user\nHow fast?<|im_end|><|im_start|>assistant\n"
    )


def test_what_is_trained_continues_the_prompt():
    whole = render([QUESTION, ANSWER], CHATML_DIRECT).text
    assert whole == prompt([QUESTION], CHATML_DIRECT).text + "On the right.<|im_end|>"


def test_an_empty_last_answer_leaves_the_text_open():
    assert render([QUESTION, Turn("assistant", "")], CHATML_DIRECT) == prompt([QUESTION], CHATML_DIRECT)


def test_another_template_is_data():
    vicuna = Template("vicuna", "A chat. ", ("USER: ", " "), ("ASSISTANT: ", "</s>"))
    assert render([AGAIN, MORE], vicuna).text == "A chat. USER: How fast? ASSISTANT: At 20 km/h.</s>"
    assert TEMPLATES == {"chatml_direct": CHATML_DIRECT, "vicuna_v1": VICUNA_V1, "plain": PLAIN}


def test_a_gap_before_the_answer_is_trained_with_it_and_not_left_at_the_end_of_a_prompt():
    rendered = render([AGAIN, MORE], VICUNA_V1)
    assert rendered.text.endswith("questions. USER: How fast? ASSISTANT: At 20 km/h.</s>")
    assert [rendered.text[start:end] for start, end in rendered.answers] == [" At 20 km/h.</s>"]
    assert prompt([AGAIN], VICUNA_V1).text.endswith(" USER: How fast? ASSISTANT:")


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("<image>\nWhere?", "<image>\nWhere?"),
        ("Where?\n<image>", "<image>\nWhere?"),
        ("In <image> where?", "<image>\nIn  where?"),
        ("<image><image>Where?", "<image>\nWhere?"),
        ("<image>", "<image>"),
        ("  Where? ", "  Where? "),
    ],
)
def test_the_picture_moves_to_the_front(text: str, moved: str):
    assert move_image_first(text) == moved
    assert move_image_first(moved) == moved


def test_a_dialogue_shows_the_picture_once():
    assert dialogue(["Where?", "How fast?"], []) == (Turn("user", "<image>\nWhere?"),)
    assert dialogue(["Where?", "How fast?"], ["Left."])[1:] == (Turn("assistant", "Left."), AGAIN)


# --- records ---


def test_a_record_is_read_as_turns_and_a_leading_answer_left_out():
    record = [{"from": "gpt", "value": "Hello."}, {"from": "human", "value": "How fast?"}, {"from": "gpt", "value": "At 20 km/h."}]
    assert read_turns(record, where="a.json: record 1") == (AGAIN, MORE)
    assert read_turns([], where="a.json") == ()


@pytest.mark.parametrize("entry", [{"from": "bot", "value": "Hi."}, {"from": "gpt"}, {"from": "human", "value": None}])
def test_a_turn_of_somebody_else_or_without_text_is_refused(entry: dict):
    message = refusal(lambda: read_turns([{"from": "human", "value": "Hi."}, entry], where="a.json: record 3"))
    assert message == f'a.json: record 3: turn 2 is {entry}; expected {{"from": "human" or "gpt", "value": text}}'


# --- what cannot be trained ---


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([QUESTION, AGAIN], "turn 2 is of the user, expected the assistant; questions and answers must alternate"),
        ([ANSWER], "turn 1 is of the assistant, expected the user; questions and answers must alternate"),
        ([QUESTION, Turn("assistant", ""), AGAIN, MORE], "turn 2 is an empty answer; only the last one may be left open"),
        (
            [QUESTION, Turn("assistant", "bad <|im_end|> text")],
            "turn 2, an answer, contains '<|im_end|>'; take it out of the text or leave the sample out",
        ),
        (
            [QUESTION, Turn("assistant", "<image> text")],
            "turn 2, an answer, contains '<image>'; take it out of the text or leave the sample out",
        ),
    ],
)
def test_an_odd_conversation_is_refused(turns: list[Turn], message: str):
    assert refusal(lambda: render(turns, CHATML_DIRECT)) == message


@pytest.mark.parametrize("turns", [[], [QUESTION, ANSWER]])
def test_a_prompt_needs_a_question_at_its_end(turns: list[Turn]):
    expected = f"a prompt of {len(turns)} turn(s) does not end with a question; the last turn must be of the user"
    assert refusal(lambda: prompt(turns, CHATML_DIRECT)) == expected


@pytest.mark.parametrize(("text", "image_tokens", "found"), [("Where?", 4, 0), (f"{IMAGE}\nWhere?", 0, 1), (f"{IMAGE} {IMAGE}", 4, 2)])
def test_the_picture_stands_once_or_not_at_all(tokenizer, text: str, image_tokens: int, found: int):
    message = refusal(lambda: encode(Rendered(text, ()), tokenizer, image_tokens, FAR))
    assert message == f"{found} times <image> in the conversation with {image_tokens} image tokens; it stands once for all pictures"


# --- tokens and labels ---


@given(PAIRS, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_trained_text_is_the_answers_and_their_closings(tokenizer, pairs: list[tuple[str, str]], image_tokens: int):
    turns = [turn for question, answer in pairs for turn in (Turn("user", question), Turn("assistant", answer))]
    if image_tokens:
        turns[0] = Turn("user", f"{IMAGE}\n{turns[0].text}")
    encoded = encode(render(turns, CHATML_DIRECT), tokenizer, image_tokens, FAR)
    assert trained_texts(encoded, tokenizer) == [f"{answer}<|im_end|>" for _, answer in pairs]
    assert encoded.input_ids.count(tokenizer.image_token_id) == image_tokens
    assert all(label in (IGNORED, token) for token, label in zip(encoded.input_ids, encoded.labels, strict=True))


def test_the_picture_takes_its_places_in_one_run(tokenizer):
    one = encode(render([QUESTION, ANSWER], CHATML_DIRECT), tokenizer, 1, FAR)
    five = encode(render([QUESTION, ANSWER], CHATML_DIRECT), tokenizer, 5, FAR)
    place = one.input_ids.index(tokenizer.image_token_id)
    assert five.input_ids == [*one.input_ids[:place], *[tokenizer.image_token_id] * 5, *one.input_ids[place + 1 :]]
    assert five.labels[place : place + 5] == [IGNORED] * 5
    assert five.supervised == one.supervised > 0


def test_the_start_token_comes_once_and_no_end_token_is_added(tokenizer):
    encoded = encode(render([QUESTION, ANSWER], CHATML_DIRECT), tokenizer, 2, FAR)
    assert encoded.input_ids[0] == tokenizer.bos_token_id
    assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
    assert encoded.input_ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_token_that_begins_before_the_answer_is_trained_with_it(tokenizer):
    text = "So: The vehicle"
    answer = (text.index("The"), len(text))
    encoded = encode(Rendered(text, (answer,)), tokenizer, 0, FAR)
    assert trained_texts(encoded, tokenizer) == [" The vehicle"]


@given(st.integers(30, 70))
@settings(max_examples=20, deadline=None)
def test_what_is_too_long_loses_its_end(tokenizer, length: int):
    rendered = render([QUESTION, ANSWER], CHATML_DIRECT)
    whole, cut = encode(rendered, tokenizer, 8, FAR), encode(rendered, tokenizer, 8, max(length, 45))
    kept = min(len(whole.input_ids), max(length, 45))
    assert (cut.input_ids, cut.labels) == (whole.input_ids[:kept], whole.labels[:kept])


def test_the_cut_does_not_go_into_the_pictures(tokenizer):
    rendered = render([QUESTION, ANSWER], CHATML_DIRECT)
    ids = encode(rendered, tokenizer, 8, FAR).input_ids
    needed = len(ids) - ids[::-1].index(tokenizer.image_token_id)
    assert encode(rendered, tokenizer, 8, needed).supervised == 0
    assert refusal(lambda: encode(rendered, tokenizer, 8, needed - 1)) == (
        f"the pictures and what precedes them need {needed} tokens, {needed - 1} are allowed; raise the maximum length"
    )


def test_a_prompt_is_not_cut(tokenizer):
    asked = prompt([QUESTION], CHATML_DIRECT)
    length = len(encode(asked, tokenizer, 8, FAR).input_ids)
    assert len(encode(asked, tokenizer, 8, length).input_ids) == length
    assert refusal(lambda: encode(asked, tokenizer, 8, length - 1)) == (
        f"the prompt needs {length} tokens, {length - 1} are allowed; raise the maximum length"
    )


def test_the_module_loads_no_torch():
    program = "import sys, lib.conversation; print('torch' in sys.modules, 'transformers' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert answer.stdout.split() == ["False", "False"]
