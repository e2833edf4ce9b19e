"""Weights of dataengine: what is wrong, how often by type, and what smoothing and a minimum change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.dataengine.weights import Tally, bad_cases, count_errors, is_wrong, weigh


def result(type_: str, answer: str | None, right: str = "Red.") -> dict:
    choices = [right, "blue", "green", "pink"]
    return {"question": "Which?", "question_type": type_, "choices": choices, "correct_choice_idx": 0, "model_answer": answer}


@pytest.mark.parametrize(("answer", "wrong"), [("Red.", False), ("red", False), (" RED", False), ("blue", True), ("", True), (None, True)])
def test_an_answer_is_wrong_unless_it_is_the_right_option(answer, wrong):
    assert is_wrong(result("a", answer)) is wrong


def test_bad_cases_and_errors_by_type():
    results = [result("b", "blue"), result("a", "red"), result("b", "red"), result("b", None)]
    assert bad_cases(results) == {"b": [results[0], results[3]]}
    assert count_errors(results) == {"b": Tally(3, 2), "a": Tally(1, 0)}


def test_a_result_without_a_type_is_refused():
    untyped = {name: value for name, value in result("a", "red").items() if name != "question_type"}
    with pytest.raises(DataError) as caught:
        count_errors([untyped])
    assert str(caught.value) == "a result has no question_type: 'Which?'; sort the questions by type first"


def test_published_weights_are_error_rates_of_three_places_whatever_the_count():
    tallies = {"attribute": Tally(27, 8), "quality": Tally(1, 1), "emotion": Tally(2, 0)}
    assert weigh(tallies, rule="errors", smoothing=0, minimum=0) == {"attribute": 0.296, "quality": 1.0, "emotion": 0.0}


def test_smoothing_draws_rare_types_to_the_middle_and_a_minimum_leaves_them_out():
    tallies = {"attribute": Tally(27, 8), "quality": Tally(1, 1)}
    assert weigh(tallies, rule="errors", smoothing=1, minimum=0) == {"attribute": 0.31, "quality": 0.667}
    assert weigh(tallies, rule="errors", smoothing=0, minimum=2) == {"attribute": 0.296}


def test_the_control_weighs_all_types_alike():
    assert weigh({"a": Tally(9, 8), "b": Tally(9, 0), "c": Tally(1, 1)}, rule="equal", smoothing=0, minimum=2) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(("smoothing", "minimum"), [(-1, 0), (0, -2)])
def test_negative_counts_are_refused(smoothing, minimum):
    with pytest.raises(ConfigError) as caught:
        weigh({}, rule="errors", smoothing=smoothing, minimum=minimum)
    assert str(caught.value) == f"smoothing {smoothing} and minimum {minimum}: both are counts of questions, 0 or more"


@given(st.integers(1, 500).flatmap(lambda questions: st.tuples(st.just(questions), st.integers(0, questions))), st.floats(0, 50))
def test_a_weight_lies_between_the_error_rate_and_one_half(counts, smoothing):
    rate = counts[1] / counts[0]
    weight = weigh({"a": Tally(*counts)}, rule="errors", smoothing=smoothing, minimum=0)["a"]
    assert min(rate, 0.5) - 0.0005 <= weight <= max(rate, 0.5) + 0.0005
