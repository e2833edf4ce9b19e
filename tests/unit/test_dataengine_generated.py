"""Generated records of dataengine: odd files, records from replies, the views of a record, the merged mix and its manifest."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.dataengine import replies
from lib.submissions.dataengine.generated import Converted, build_manifest, convert, from_replies, merge, permute, read_generated
from lib.submissions.dataengine.question_types import SEED_TYPES

RECORD = {
    "instruction": "Where is she?",
    "answer": "She stands at the left.",
    "short_answer": "Left",
    "options": ["Top", "Left", "Right", "Bottom"],
    "choice_answer": "B",
    "image": "vg/VG_100K/5.jpg",
    "qtype": 4,
}
BARE = {name: value for name, value in RECORD.items() if name not in ("options", "choice_answer")}
LETTER = "Answer with the option's letter from the given choices directly."


def turns_of(record: dict, view: str) -> tuple[str, str]:
    (converted,), _ = convert([record], view, seed=0)
    question, answer = converted.sample["conversations"]
    assert (question["from"], answer["from"]) == ("human", "gpt")
    return question["value"], answer["value"]


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_as_specified_is_read_as_it_is(tmp_path):
    path = write(tmp_path / "generated.json", json.dumps([RECORD, RECORD | {"qtype": 1}]))
    assert read_generated(path) == ([RECORD, RECORD | {"qtype": 1}], {})


def test_the_oddities_of_the_published_example_are_read_and_counted(tmp_path):
    misspelt = {("choide_answer" if name == "choice_answer" else name): value for name, value in RECORD.items()}
    text = json.dumps([misspelt, BARE, RECORD | {"choice_answer": "E"}, BARE | {"qtype": 12}]).replace('"Bottom"]', '"Bottom" ,]')
    records, odd = read_generated(write(tmp_path / "generated.json", text.removesuffix("]") + ",\n]"))
    assert records == [RECORD, BARE, BARE, BARE | {"qtype": 12}]
    assert odd == {
        "comma before a closing bracket": 3,
        "key spelt choide_answer": 1,
        "no letter, or not one to five options": 2,
        "a letter that is no option's": 1,
        "no type of question": 1,
    }


def test_commas_inside_texts_stay(tmp_path):
    record = RECORD | {"answer": 'She says "[a,]" and {b, }.'}
    records, _ = read_generated(write(tmp_path / "generated.json", json.dumps([record]).removesuffix("]") + ",]"))
    assert records == [record]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, \n', "2: not valid JSON (Expecting value); is the file cut off? bring or make it again"),
        ("{}", " found {}, expected a list; bring the published file"),
        ("[3]", " row 1: found 3, expected an object; bring the published file"),
        (json.dumps([RECORD, {"instruction": "Why?"}]), " row 2: no answer; bring the published file"),
        (json.dumps([RECORD | {"image": None}]), " row 1: image: found null, expected text; bring the published file"),
    ],
)
def test_what_is_no_list_of_records_is_refused(tmp_path, text, message):
    path = write(tmp_path / "generated.json", text)
    with pytest.raises(DataError) as caught:
        read_generated(path)
    assert str(caught.value) == f"{path}:{message}"


def reply(**changes: object) -> dict:
    kept = {"image_id": 5, "question_type": "Instance Location", "question": "Where is she?", "choices": RECORD["options"]}
    return kept | {"correct_choice_idx": 1, "rationales": ["Explanations: She stands at the left."]} | changes


def test_a_record_is_made_of_a_reply():
    records, dropped = from_replies([reply()], {5: "vg/VG_100K/5.jpg"})
    assert records == [RECORD | {"answer": "She stands at the left.", "short_answer": "Left"}]
    assert not dropped


@pytest.mark.parametrize("number", SEED_TYPES)
def test_types_of_seed_bench_have_their_number(number):
    assert from_replies([reply(question_type=SEED_TYPES[number])], {5: ""})[0][0]["qtype"] == number


def test_other_types_keep_their_name_and_letters_without_an_option_are_dropped():
    records, dropped = from_replies([reply(question_type="image_scene"), reply(correct_choice_idx=4)], {5: "a.jpg"})
    assert [(record.get("qtype"), record["question_type"]) for record in records] == [(None, "image_scene")]
    assert dropped == {replies.NO_SUCH_OPTION: 1}


@pytest.mark.parametrize(
    ("rationale", "answer"),
    [
        ("Reason: Because.", "Because."),
        ("Explanation: For this Reason: so.", "For this Reason: so."),
        ("So it is.", "So it is."),
        ("Answer: The answer is (B): Left.", "Left"),
    ],
)
def test_the_answer_is_the_explanation_without_its_marker(rationale, answer):
    assert from_replies([reply(rationales=[rationale])], {5: "a.jpg"})[0][0]["answer"] == answer


def test_the_views_of_a_record():
    assert turns_of(RECORD, "mc") == (f"<image>\nWhere is she?\nA. Top\nB. Left\nC. Right\nD. Bottom\n{LETTER}", "B")
    assert turns_of(RECORD, "da") == ("<image>\nWhere is she?", "She stands at the left.")
    assert turns_of(RECORD, "short") == ("<image>\nWhere is she?\nAnswer the question using a single word or phrase.", "Left")


def test_samples_are_named_after_view_and_place_and_records_without_options_are_counted():
    converted, dropped = convert([RECORD, BARE, RECORD], "mcp", seed=1)
    assert [one.sample["id"] for one in converted] == ["engine_mcp_0", "engine_mcp_2"]
    assert {(one.view, one.type, one.sample["image"]) for one in converted} == {("mcp", "Instance Location", "vg/VG_100K/5.jpg")}
    assert dropped == {"no options for a multiple-choice view": 1}


options = st.lists(st.sampled_from(["red", "blue", "green", "pink", "grey"]), min_size=1, max_size=5)


@given(options, st.data(), st.integers(0, 1_000))
def test_the_letter_keeps_pointing_at_the_same_text(texts, data, seed):
    right = data.draw(st.integers(0, len(texts) - 1))
    permuted = permute(RECORD | {"options": texts, "choice_answer": "ABCDE"[right]}, np.random.default_rng(seed))
    assert sorted(permuted["options"]) == sorted(texts)
    place = "ABCDE".index(permuted["choice_answer"])
    assert permuted["options"][place] == texts[right] and place == permuted["options"].index(texts[right])


@given(st.integers(0, 1_000))
def test_permuted_questions_show_the_order_that_their_letter_is_of(seed):
    (one,), _ = convert([RECORD], "mcp", seed=seed)
    question, answer = (turn["value"] for turn in one.sample["conversations"])
    assert f"\n{answer}. Left\n" in question


def test_permutations_and_drawn_views_depend_on_the_seed_only():
    for view in ("mcp", "mixed"):
        runs = [[one.sample for one in convert([RECORD] * 20, view, seed=seed)[0]] for seed in (0, 0, 1)]
        assert runs[0] == runs[1] != runs[2]


def test_a_mixed_view_shows_every_record_once_in_a_view_it_has():
    converted, dropped = convert([RECORD, BARE] * 200, "mixed", seed=0)
    assert len(converted) == 400 and not dropped
    assert {one.view for one in converted[::2]} == {"mc", "mcp", "da", "short"}
    assert {one.view for one in converted[1::2]} == {"da", "short"}


def test_an_unknown_view_is_refused():
    with pytest.raises(ConfigError) as caught:
        convert([RECORD], "all", seed=0)
    assert str(caught.value) == "no view 'all' of generated records; there are: mc, mcp, da, short, mixed"


BASE = [
    {"id": "a", "image": "coco/train2017/1.jpg", "conversations": []},
    {"id": "a", "image": "coco/train2017/1.jpg", "conversations": []},
    {"id": "b", "conversations": []},
]


def test_a_merged_mix_is_the_base_and_what_was_generated():
    converted, _ = convert([RECORD, BARE | {"qtype": 1}], "short", seed=0)
    merged = merge(BASE, converted)
    assert merged == [*BASE, *(one.sample for one in converted)]
    assert build_manifest(BASE, converted) == {
        "samples": 5,
        "source": {"coco/train2017": 2, "text only": 1, "engine": 2},
        "view": {"short": 2},
        "type": {"Instance Location": 1, "Scene Understanding": 1},
    }


def test_types_in_a_manifest_have_names_wherever_they_come_from():
    records = [BARE, {**BARE, "qtype": None, "question_type": "image_scene"}, BARE | {"qtype": 12}]
    assert build_manifest([], convert(records, "da", seed=0)[0])["type"] == {"Instance Location": 1, "image_scene": 1, "unknown": 1}


@pytest.mark.parametrize("base", [[{"id": "engine_da_0"}], []])
def test_a_sample_that_is_in_the_mix_already_is_refused(base):
    one = Converted({"id": "engine_da_0"}, "da", "unknown")
    with pytest.raises(DataError) as caught:
        merge(base, [one] if base else [one, one])
    assert str(caught.value) == "the sample 'engine_da_0' is in the mix already; convert the records of all rounds in one list"
