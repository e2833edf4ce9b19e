"""Replies of dataengine's writer: what is read out of well-formed ones, every reason to drop one, and the quirks side by side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.submissions.dataengine import replies
from lib.submissions.dataengine.replies import read_replies, read_reply, strip_boxes
from lib.submissions.dataengine.writers import Draft, form

GOOD = "Question: Which?\nChoices: (A) red (B) blue. (C) green (D) pink\nAnswer: The answer is (b): blue.\nExplanations: It is blue."


def read(text: str | None, rules: str = "corrected") -> tuple | str:
    """Question, options, number of the right one and explanation; or the reason to drop the reply."""
    record, reason = read_reply({"image_id": 1, "raw_instructions": text}, rules=rules)
    if record is None:
        return reason
    return record["question"], record["choices"], record["correct_choice_idx"], record["rationales"][0]


@pytest.mark.parametrize("rules", ["as_published", "corrected"])
def test_a_record_is_its_reply_and_what_was_read(rules):
    reply = {"image_id": 5, "raw_instructions": GOOD, "question_type": "ocr"}
    record, reason = read_reply(reply, rules=rules)
    assert reason is None
    read_of_it = {"question": "Which?", "choices": ["red", "blue", "green", "pink"], "correct_choice_idx": 1}
    assert record == reply | read_of_it | {"rationales": ["Explanations: It is blue."]}


words = st.text("abcdefghijklmnop qrstuvwxyzäöü", min_size=1, max_size=20).map(lambda text: " ".join(text.split())).filter(bool)
plain = words.filter(lambda text: "and" not in text and "skip" not in text and "descri" not in text and "coord" not in text)


@given(plain, st.lists(plain, min_size=4, max_size=4), st.integers(0, 3), plain)
def test_reading_a_well_formed_reply_gives_back_what_was_written(question, options, right, explanation):
    draft = Draft(f"{question}?", tuple(options), right, f"{explanation}.")
    for rules in ("as_published", "corrected"):
        assert read(form(draft), rules) == (draft.question, options, right, f"Explanations: {draft.explanation}")


@pytest.mark.parametrize(
    ("text", "published", "corrected"),
    [
        (None, replies.NO_REPLY, replies.NO_REPLY),
        (f"{GOOD} Its coordinate says so.", replies.MENTIONS_BOXES, replies.MENTIONS_BOXES),
        (f"{GOOD} The bounding boxes say so.", replies.MENTIONS_BOXES, replies.MENTIONS_BOXES),
        ("Skip. No such thing.", replies.SKIPPED, replies.SKIPPED),
        ('"SKIP": no such thing.', replies.NO_OPTIONS, replies.SKIPPED),
        (GOOD.replace("(", "").replace(")", ""), replies.NO_OPTIONS, replies.NO_OPTIONS),
        (GOOD.replace("(C) green", "(C) ."), replies.NO_OPTIONS, replies.NO_OPTIONS),
        ("I cannot tell.", replies.NO_OPTIONS, replies.NO_QUESTION),
        (GOOD.partition("\nAnswer")[0], replies.NO_LETTER, replies.NO_LETTER),
        (GOOD.replace("(b)", "b"), replies.NO_LETTER, replies.NO_LETTER),
        (GOOD.replace("(b)", "(F)"), replies.NO_SUCH_OPTION, replies.NO_SUCH_OPTION),
        (GOOD.replace("(b)", "(A, B)"), replies.NO_SUCH_OPTION, replies.NO_SUCH_OPTION),
        (GOOD.replace("(b)", "()"), replies.NO_SUCH_OPTION, replies.NO_SUCH_OPTION),
        (f"{GOOD} It is located at  [0.1, 0.2].", replies.LOCATED_AT, replies.LOCATED_AT),
        (f"{GOOD} See the Descriptions.", replies.DESCRIPTION, replies.DESCRIPTION),
    ],
)
def test_replies_are_dropped_for_the_first_reason_that_applies(text, published, corrected):
    assert (read(text, "as_published"), read(text)) == (published, corrected)


def test_every_reason_is_counted():
    found = [{"raw_instructions": text} for text in (None, GOOD, "Skip.", "Skip!", GOOD.replace("(b)", "b"))]
    records, dropped = read_replies(found, rules="corrected")
    assert [record["question"] for record in records] == ["Which?"]
    assert dropped == {replies.NO_REPLY: 1, replies.SKIPPED: 2, replies.NO_LETTER: 1}


@pytest.mark.parametrize(
    ("text", "published", "corrected"),
    [
        (GOOD.replace("Which", "Who is skipping"), replies.SKIPPED, ("Who is skipping?", ["red", "blue", "green", "pink"], 1, "Explanations: It is blue.")),
        (GOOD.replace("red", "red (dark)"), ("Which?", ["red", "blue", "green", "pink"], 1, "Explanations: It is blue."),
         ("Which?", ["red (dark)", "blue", "green", "pink"], 1, "Explanations: It is blue.")),
        (GOOD.replace(" (D) pink", ""), ("Which?", ["red", "blue", "green"], 1, "Explanations: It is blue."), replies.NOT_FOUR),
        (GOOD.replace("(b)", "(e)"), ("Which?", ["red", "blue", "green", "pink"], 4, "Explanations: It is blue."), replies.NO_SUCH_OPTION),
        (GOOD.replace("Question:", "Q:"), ("?", ["red", "blue", "green", "pink"], 1, "Explanations: It is blue."), replies.NO_QUESTION),
        (GOOD + "\nSo it is.", ("Which?", ["red", "blue", "green", "pink"], 1, "So it is."),
         ("Which?", ["red", "blue", "green", "pink"], 1, "Explanations: It is blue.\nSo it is.")),
        (GOOD.replace("red", "sand , shells"), ("Which?", ["s, shells", "blue", "green", "pink"], 1, "Explanations: It is blue."),
         ("Which?", ["sand, shells", "blue", "green", "pink"], 1, "Explanations: It is blue.")),
    ],
)  # fmt: skip
def test_the_quirks_side_by_side(text, published, corrected):
    assert (read(text, "as_published"), read(text)) == (published, corrected)


@pytest.mark.parametrize("rules", ["as_published", "corrected"])
@pytest.mark.parametrize("marker", ["Explanation:", "Reason:", "Reasoning:", "Lecture:", "Explanatory note:", "Explaination:"])
def test_an_explanation_is_known_by_any_of_the_published_markers(marker, rules):
    assert read(f"{GOOD.replace('Explanations:', marker)}\nSo it is.", rules)[3] == f"{marker} It is blue.\nSo it is."


@pytest.mark.parametrize("rules", ["as_published", "corrected"])
def test_a_letter_in_the_explanation_is_not_the_answer(rules):
    assert read("Question: Q\nChoices: (A) a (B) b (C) c (D) d\nAnswer: b\nReason: not (A).", rules) == replies.NO_LETTER


@pytest.mark.parametrize("rules", ["as_published", "corrected"])
def test_without_an_explanation_the_last_line_explains(rules):
    assert read(GOOD.partition("\nExplanations")[0], rules)[3] == "Answer: The answer is (b): blue."


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("The dog [0.1, 0.2, 0.3, 0.4] and the cat [0.5] sleep.", "The dog and the cat sleep."),
        ("The dogs [0.1], [0.2], and [0.3]. They sleep [1] ?", "The dogs. They sleep?"),
        ("A cat [0.1] , a dog [0.2],", "A cat, a dog,"),
        ("nothing", "nothing"),
    ],
)
def test_boxes_go_with_what_they_leave_over(text, stripped):
    assert strip_boxes(text, rules="as_published") == strip_boxes(text, rules="corrected") == stripped


@given(st.text("ab [],.?d n\n", max_size=30))
def test_stripping_leaves_no_gap(text):
    stripped = strip_boxes(text, rules="corrected")
    assert "  " not in stripped and " ," not in stripped and stripped == stripped.strip()


@given(
    st.text(max_size=120)
    | st.lists(st.sampled_from(["Question:", "Choices:", "Answer:", "Reason:", "(A)", "(B) x", "(", ")", "\n", "skip"])).map(" ".join)
)
def test_no_reply_ends_the_run(text):
    for rules in ("as_published", "corrected"):
        record, reason = read_reply({"raw_instructions": text}, rules=rules)
        assert (record is None) == (reason in replies.REASONS)
