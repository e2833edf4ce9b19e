"""GQA: the conversion of predictions and the official scores, on questions small enough to score by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import gqa
from lib.metrics.tally import Tally


def question(answer: str, *, structural: str = "query", group: str | None = "color", **changes: object) -> dict:
    return {
        "question": "What is it?",
        "answer": answer,
        "isBalanced": True,
        "types": {"structural": structural, "semantic": "attr", "detailed": "x"},
        "groups": {"global": group, "local": None},
        "semantic": [{"operation": "select", "argument": "box"}, {"operation": "query", "argument": "color"}],
        "entailed": [],
    } | changes


@given(st.text())
def test_conversion_removes_dots_at_the_end_and_capitals_and_nothing_else(text):
    converted = gqa.gqa_prediction(text)
    assert converted == gqa.gqa_prediction(text + "...") == gqa.gqa_prediction(converted)
    assert gqa.gqa_prediction(" Red dog . ") == " red dog . "


def test_accuracy_is_over_the_balanced_questions():
    questions = {
        "1": question("red"),
        "2": question("blue"),
        "3": question("red", isBalanced=False),
        "4": question("yes", structural="verify"),
    }
    score = gqa.score_gqa(questions, {"1": "Red.", "2": "red", "4": "yes"})
    assert score.accuracy == Tally(2, 3)
    assert (score.open, score.binary) == (Tally(1, 2), Tally(1, 1))
    assert score.by_structure == {"query": Tally(1, 2), "verify": Tally(1, 1)}
    assert score.by_meaning == {"attr": Tally(2, 3)} and score.by_words == {3: Tally(2, 3)}
    assert (score.validity, score.plausibility, score.consistency) == (None, None, None)


@pytest.mark.parametrize(
    ("steps", "counted"),
    [
        ([("select", "box"), ("query", "color")], 2),
        ([("select", "box"), ("exist", "?")], 1),
        ([("select", "?"), ("query", "name")], 1),
        ([("select", "?"), ("choose name", "dog|cat")], 1),
        ([("choose color", "red|blue")], 1),
        ([("query", "name")], 0),
    ],
)
def test_steps_that_ask_for_the_answer_do_not_count(steps, counted):
    semantic = [{"operation": operation, "argument": argument, "dependencies": []} for operation, argument in steps]
    assert list(gqa.score_gqa({"1": question("x", semantic=semantic)}, {"1": "x"}).by_steps) == [counted]


def test_distribution_is_chi_square_weighted_by_group_size():
    questions = {str(number): question(answer) for number, answer in enumerate(["red", "red", "blue"])}
    questions |= {"a": question("left", group="place"), "b": question("yes", group=None)}
    answers = {"0": "blue", "1": "blue", "2": "blue", "a": "left", "b": "no"}
    # color: red 0 of 2, blue 3 of 1: (2^2/2 + 2^2/1) = 6, three questions; place: 0, one question.
    assert gqa.score_gqa(questions, answers).distribution == pytest.approx(6 * 3 / 4 / 100)
    assert gqa.score_gqa({"b": questions["b"]}, {"b": "no"}).distribution is None


@given(st.lists(st.sampled_from(["red", "blue", "green"]), min_size=1))
def test_right_answers_have_the_right_distribution(answers):
    questions = {str(number): question(answer) for number, answer in enumerate(answers)}
    score = gqa.score_gqa(questions, {str(number): answer for number, answer in enumerate(answers)})
    assert (score.distribution, score.accuracy.percent) == (0.0, 100.0)


def test_consistency_asks_what_right_answers_entail():
    questions = {
        "1": question("red", entailed=["1", "2", "3"]),
        "2": question("yes", structural="verify", entailed=["1"]),
        "3": question("no", isBalanced=False, entailed=["1"]),
        "4": question("blue", entailed=["4"]),  # entails itself only
        "5": question("blue", entailed=["1"]),
    }
    answers = {"1": "red", "2": "yes", "3": "yes", "4": "blue", "5": "red"}
    # 1 is right, and one of its other two; 2 is right, and so is 1; 3 is not balanced, 5 is wrong.
    assert gqa.score_gqa(questions, answers, consistency=True).consistency == pytest.approx(100 * (0.5 + 1) / 2)
    assert gqa.score_gqa({"4": questions["4"]}, answers, consistency=True).consistency is None


def test_valid_and_plausible_answers_are_those_among_the_choices():
    common = question("color", types={"structural": "query", "semantic": "attr", "detailed": "attrCommon"})
    choices = {"1": {"valid": ["red", "dog"], "plausible": ["red"]}, "2": {"valid": [], "plausible": []}}
    score = gqa.score_gqa({"1": question("red"), "2": common}, {"1": "dog", "2": "shape"}, choices=choices)
    assert (score.validity, score.plausibility) == (Tally(2, 2), Tally(1, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gqa.score_gqa({"1": question("red")}, {}),
            "GQA question '1' has no prediction; the official evaluator needs all of them, infer it first",
        ),
        (
            lambda: gqa.score_gqa({"1": question("red", isBalanced=False)}, {}, consistency=True),
            "GQA question '1' has no prediction; the official evaluator needs all of them, infer it first",
        ),
        (
            lambda: gqa.score_gqa({"1": question("red")}, {"1": "red"}, choices={}),
            "GQA question '1' has no choices; bring the choices file of its split, or score without",
        ),
        (
            lambda: gqa.score_gqa({"1": question("red")}, {"1": "red"}, choices={"1": {"plausible": []}}),
            "the entry of GQA question '1' among the choices has no 'valid'; it has: plausible; compare with the benchmark's own file",
        ),
        (
            lambda: gqa.score_gqa({"1": question("red", entailed=["9"])}, {"1": "red"}, consistency=True),
            "GQA question '1' entails '9', which is not among the questions; give all questions of the split",
        ),
        (
            lambda: gqa.score_gqa({"1": {"isBalanced": True}}, {"1": "red"}),
            "GQA question '1' has no 'answer'; it has: isBalanced; compare with the benchmark's own file",
        ),
        (
            lambda: gqa.score_gqa({"1": question("red", types={"semantic": "attr"})}, {"1": "red"}),
            "the field types of GQA question '1' has no 'structural'; it has: semantic; compare with the benchmark's own file",
        ),
    ],
)
def test_messages_of_the_gqa_scores(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
