"""Writers of dataengine: requests, replies as published, and the stand-in that writes about toy pictures, with its mistakes."""

import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.services import Offline, Outcome, Request
from lib.submissions.dataengine import facts, replies
from lib.submissions.dataengine.facts import FACTS
from lib.submissions.dataengine.prompt_review import read_prompt
from lib.submissions.dataengine.queries import Draw, ImageFacts, build_query
from lib.submissions.dataengine.question_types import AOKVQA_TYPES, SEED_TYPES, facts_of
from lib.submissions.dataengine.writers import MISTAKE_SHARE, PARAMETERS, SKIP, Draft, add_replies, build_requests, form, stand_in

INSTRUCTIONS = read_prompt(None).text
BOXES = ("person : [0.1, 0.2, 0.3, 0.4]", "vehicle : [0.5, 0.2, 0.9, 0.8]")
ASKED = "Scene Understanding", "Instance Attributes", "Instance Interaction"


def values(seed: int) -> dict[str, str]:
    rng = np.random.default_rng(seed)
    return {name: str(rng.choice(fact.values)) for name, fact in FACTS.items()}


def query(seed: int, type_: str, captions: tuple[str, ...] | None = None) -> dict:
    """A query about a toy picture with five captions that state everything, unless others are given."""
    stated = facts.statements(values(seed))
    captions = tuple(" ".join(stated[first::5]) for first in range(5)) if captions is None else captions
    example = {"question": "Why?", "choices": ["a", "b", "c", "d"], "correct_choice_idx": 1}
    return build_query(Draw(type_, (example, example), ImageFacts(seed, "a.jpg", captions, BOXES), "random"), INSTRUCTIONS)


def write(given_query: dict) -> str:
    (request,) = build_requests([given_query], model="none", parameters={})
    return stand_in(request)


@cache
def written() -> list[dict]:
    """A thousand replies of the stand-in."""
    asked = [query(seed, ASKED[seed % 3]) for seed in range(1_000)]
    return add_replies(asked, Offline(stand_in).ask(build_requests(asked, model="none", parameters=PARAMETERS), lambda done: None))


def test_a_request_holds_the_prompt_and_the_published_parameters():
    request = build_requests([query(0, "ocr")], model="gpt-4", parameters=PARAMETERS)[0]
    expected = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 800, "stop": ["###"], "logit_bias": {"50256": -100}}
    assert request == Request("gpt-4", [{"role": "user", "content": query(0, "ocr")["prompt"]}], expected)


def test_replies_have_the_published_keys_and_null_where_the_request_failed():
    added = add_replies([query(5, "ocr"), query(6, "ocr")], [Outcome("Skip."), Outcome(None, "time-out")])
    assert added == [
        {"image_id": 5, "raw_instructions": "Skip.", "question_type": "ocr"},
        {"image_id": 6, "raw_instructions": None, "question_type": "ocr"},
    ]


def test_a_reply_has_the_form_that_the_prompt_asks_for():
    draft = Draft("What is it?", ("a cat", "a dog"), 1, "It barks.")
    assert form(draft) == "Question: What is it?\nChoices: (A) a cat (B) a dog\nAnswer: The answer is (B): a dog.\nExplanations: It barks."


def test_what_is_kept_is_true_of_the_picture_and_of_the_type_asked_for():
    records, dropped = replies.read_replies(written(), rules="corrected")
    assert len(records) + dropped.total() == 1_000
    for record in records:
        fact = next(fact for fact in facts_of(record["question_type"]) if record["question"] in fact.questions)
        value = values(record["image_id"])[fact.attribute]
        assert record["choices"][record["correct_choice_idx"]] == value
        assert len(set(record["choices"])) == 4 and set(record["choices"]) <= set(fact.values)
        assert record["rationales"] == [f"Explanations: {fact.statement.format(value)}"]


def test_right_options_fall_on_all_letters_alike():
    records, _ = replies.read_replies(written(), rules="corrected")
    counts = np.bincount([record["correct_choice_idx"] for record in records], minlength=4)
    assert (abs(counts / len(records) - 0.25) < 4 * (0.25 * 0.75 / len(records)) ** 0.5).all()


def test_a_small_share_of_replies_has_mistakes_and_every_reason_to_drop_one_occurs():
    _, dropped = replies.read_replies(written(), rules="corrected")
    assert abs(dropped.total() / 1_000 - MISTAKE_SHARE) < 0.04
    assert set(dropped) == set(replies.REASONS) - {replies.NO_REPLY}
    _, published = replies.read_replies(written(), rules="as_published")
    assert set(published) == set(dropped) - {replies.NO_QUESTION, replies.NOT_FOUR}


def test_boxes_follow_the_objects_they_belong_to():
    texts = [reply["raw_instructions"] for reply in written()]
    assert any("the pedestrian [0.1, 0.2, 0.3, 0.4]" in text for text in texts)
    assert any("the vehicle [0.5, 0.2, 0.9, 0.8]" in text for text in texts)
    assert not any(re.search(r"the (pedestrian|person) \[0\.5|the vehicle \[0\.1", text) for text in texts)


@pytest.mark.parametrize("type_", [*SEED_TYPES.values(), *AOKVQA_TYPES])
def test_types_of_which_nothing_is_known_are_skipped(type_):
    assert (write(query(1, type_)) == SKIP) == (not facts_of(type_))


def test_facts_that_no_caption_states_are_not_written_about():
    only_road = ("The kind of road is parking lot. A cat sleeps.", "The weather is fine.")
    for seed in range(20):
        text = write(query(seed, "image_scene", only_road))
        assert "weather" not in text
    assert write(query(0, "image_scene", ())) == write(query(0, "Instance Location", only_road)) == SKIP


def test_the_same_prompt_gives_the_same_reply_and_others_differ():
    assert write(query(3, ASKED[0])) == write(query(3, ASKED[0]))
    assert len({reply["raw_instructions"] for reply in written()}) > 100


@given(st.text(max_size=80))
def test_no_prompt_ends_the_run(text):
    for prompt in (text, f"<type>image scene</type><captions>\nThe weather is clear.{text}</captions>"):
        assert stand_in(Request("none", [{"role": "user", "content": prompt}], {}))
