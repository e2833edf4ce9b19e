"""Types of questions of dataengine: requests in batches, labels in usual and unusual spellings, and the stand-in for the toy world."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError
from lib.services import Offline, Request
from lib.submissions.dataengine.facts import FACTS
from lib.submissions.dataengine.question_types import (
    AOKVQA_TYPES,
    DEFINITIONS,
    PARAMETERS,
    SEED_TYPES,
    TOY_AOKVQA,
    build_requests,
    define,
    describe,
    facts_of,
    group_by_type,
    in_batches,
    parse_types,
    stand_in,
)

SEED = tuple(SEED_TYPES.values())


def sample(number: int = 0, question: str = "Why?") -> dict:
    return {"question": question, "choices": ["a", "b", "c", "d"], "correct_choice_idx": 2, "image_id": 40 + number}


def read(reply: str | None, count: int = 3) -> tuple[dict[str, str], dict[str, int]]:
    """Question -> type, and what was counted."""
    batch = [sample(number, f"Q{number}?") for number in range(1, count + 1)]
    typed, problems = parse_types(reply, batch, AOKVQA_TYPES, folder="val2017")
    return {one["question"]: one["question_type"] for one in typed}, dict(problems)


def test_every_type_has_a_definition_of_one_sentence():
    assert set(DEFINITIONS) == {*SEED, *AOKVQA_TYPES, "ocr", "celebrity_recognition", "structuralized_image-text_understanding"}
    assert (len(SEED), len(AOKVQA_TYPES)) == (9, 18)
    for text in DEFINITIONS.values():
        assert text.endswith(".") and text.count(".") == 1
    assert len(set(DEFINITIONS.values())) == len(DEFINITIONS)


def test_a_type_without_a_definition_is_refused():
    with pytest.raises(ConfigError) as caught:
        define("gossip")
    assert str(caught.value) == f"no question type 'gossip'; there are: {', '.join(DEFINITIONS)}"


def test_a_sample_is_described_in_the_published_words():
    expected = "Question: Why?\nChoices: (A) a (B) b (C) c (D) d\nAnswer: The answer is (C): c.\nQuestion type: image scene"
    assert describe(sample(), "image_scene") == expected


def test_fifty_questions_go_into_one_request():
    samples = [sample(number, f"Question\n{number}?") for number in range(101)]
    requests = build_requests(samples, AOKVQA_TYPES, model="gpt-4", parameters=PARAMETERS)
    assert [len(batch) for batch in in_batches(samples)] == [50, 50, 1]
    assert [request.parameters for request in requests] == [{"temperature": 0.7, "top_p": 0.9, "max_tokens": 800, "stop": ["###"]}] * 3
    prompt = requests[1].messages[0]["content"]
    assert prompt.endswith("\n49. Question 98?\n50. Question 99?")
    assert "\n(3) attribute recognition: How something looks" in prompt


def test_a_typed_sample_has_the_published_fields_and_keeps_its_own():
    typed, problems = parse_types("1. (9) image scene", [sample(2)], AOKVQA_TYPES, folder="coco/val2017")
    added = {"question_type": "image_scene", "image_path": "coco/val2017/000000000042.jpg", "prompt": describe(sample(), "image_scene")}
    assert (typed, problems) == ([sample(2) | added], {})


@pytest.mark.parametrize(
    "reply",
    [
        "1. (9) Image scene\n2. (16) Image emotion\n3. (18) Knowledge-based reasoning",
        "1. (1) image_scene.\n\n2. (1) IMAGE EMOTION\n3. (1) knowledge-based reasoning\n",
        "3) (18) knowledge-based reasoning\r\n1) image scene\r\n2: ( 16 ) image emotion ",
    ],
)
def test_labels_are_read_in_all_usual_spellings(reply):
    assert read(reply) == ({"Q1?": "image_scene", "Q2?": "image_emotion", "Q3?": "knowledge-based_reasoning"}, {})


@pytest.mark.parametrize(
    ("reply", "typed", "problems"),
    [
        (None, {}, {"no answer": 1, "question without a type": 3}),
        ("", {}, {"question without a type": 3}),
        ("1. (15) OCR\n2. (9) Image scene", {"Q2?": "image_scene"}, {"unknown type": 1, "question without a type": 2}),
        ("Here you are:\n3. (9) image scene", {"Q3?": "image_scene"}, {"line without number and type": 1, "question without a type": 2}),
        ("0. (9) image scene\n4. (9) image scene", {}, {"no such question": 2, "question without a type": 3}),
        ("1. image scene\n1. image topic\n2. image scene\n3. image scene", dict.fromkeys(["Q1?", "Q2?", "Q3?"], "image_scene"), {"question with two types": 1}),
        ("2.", {}, {"unknown type": 1, "question without a type": 3}),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_counted_by_reason_and_left_untyped(reply, typed, problems):
    assert read(reply) == (typed, problems)


@given(st.text(max_size=60) | st.from_regex(r"([0-4]\. \([0-9]\) (image scene|ocr|image topic)\n){0,5}", fullmatch=True))
def test_no_reply_ends_the_run_and_every_question_is_accounted_for(reply):
    typed, problems = read(reply)
    assert len(typed) + problems.get("question without a type", 0) == 3
    lines = sum(bool(line.strip()) for line in reply.split("\n"))
    assert lines == len(typed) + sum(count for reason, count in problems.items() if reason != "question without a type")


def test_samples_are_grouped_by_type_in_their_order():
    samples = [sample(number) | {"question_type": type_} for number, type_ in enumerate("bab")]
    assert {type_: [one["image_id"] for one in own] for type_, own in group_by_type(samples).items()} == {"b": [40, 42], "a": [41]}


@pytest.mark.parametrize("types", [SEED, AOKVQA_TYPES])
def test_the_stand_in_types_every_wording_of_the_toy_world(types):
    asked = [(fact, wording) for fact in FACTS.values() for wording in fact.questions]
    samples = [sample(number, wording) for number, (_, wording) in enumerate(asked)]
    (request,) = build_requests(samples, types, model="none", parameters={})
    (outcome,) = Offline(stand_in).ask([request], lambda done: None)
    typed, problems = parse_types(outcome.text, samples, types, folder="val2017")
    expected = [fact.type if types is SEED else TOY_AOKVQA[fact.type] for fact, _ in asked]
    assert ([one["question_type"] for one in typed], problems) == (expected, {})


def test_the_stand_in_leaves_untyped_what_it_does_not_know():
    request = build_requests([sample()], SEED, model="none", parameters={})[0]
    assert stand_in(request) == "1. (0) unclear"
    assert parse_types(stand_in(request), [sample()], SEED, folder="")[1] == {"unknown type": 1, "question without a type": 1}
    assert stand_in(Request("none", [{"role": "user", "content": "Good morning!"}], {})) == ""


def test_facts_are_found_by_either_taxonomy():
    for name, other in TOY_AOKVQA.items():
        assert facts_of(name) == facts_of(name.lower()) == facts_of(other) == facts_of(other.replace("_", " ")) != []
    assert facts_of("Instances Counting") == facts_of("image_style") == []
