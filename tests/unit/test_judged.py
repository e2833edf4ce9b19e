"""Answers that a language model judges: scores read from reviews, summaries by category, MM-Vet's file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import judged


@given(st.integers(1, 10), st.integers(0, 10), st.sampled_from([" ", ","]), st.sampled_from(["", "\nThe second is better."]))
def test_two_numbers_on_the_first_line_are_the_scores(reference, model, separator, rest):
    assert judged.review_scores(f"{reference}{separator}{model}{rest}") == (reference, model)


@pytest.mark.parametrize("review", ["", "8", "8 9 10", "8/10 9/10", "Scores:\n8 9", " 8 9", "8 nan", "8 inf"])
def test_any_other_first_line_is_unreadable(review):
    assert judged.review_scores(review) == judged.UNREADABLE


REVIEWS = [
    {"question_id": 0, "category": "llava_bench_conv", "tuple": [8, 6]},
    {"question_id": 1, "category": "llava_bench_conv", "tuple": [10, 10]},
    {"question_id": 2, "category": "llava_bench_conv", "tuple": [-1, -1]},
    {"question_id": 3, "category": "llava_bench_detail", "tuple": [-1, -1]},
    {"question_id": 4, "score": [5, 2.5]},
]


def test_published_means_hold_the_minus_one_of_unreadable_reviews():
    summaries = judged.summarise_reviews(REVIEWS, unreadable="as_published")
    assert list(summaries) == ["all", "llava_bench_conv", "llava_bench_detail"]
    conv = summaries["llava_bench_conv"]
    assert (conv.reference, conv.model, conv.reviews, conv.unreadable) == (pytest.approx(17 / 3), 5.0, 3, 1)
    assert conv.row == (88.2, 56.7, 50.0)
    assert summaries["llava_bench_detail"].row == (100.0, -10.0, -10.0)


def test_corrected_means_leave_unreadable_reviews_out_and_count_them():
    summaries = judged.summarise_reviews(REVIEWS, unreadable="corrected")
    assert summaries == {
        "all": judged.JudgedSummary(reference=23 / 3, model=18.5 / 3, reviews=3, unreadable=2),
        "llava_bench_conv": judged.JudgedSummary(reference=9.0, model=8.0, reviews=2, unreadable=1),
    }
    assert summaries["llava_bench_conv"].relative == pytest.approx(100 * 8 / 9)


@given(st.lists(st.integers(1, 10), min_size=1))
def test_a_model_as_good_as_the_reference_has_100(scores):
    reviews = [{"category": "conv", "tuple": [score, score]} for score in scores]
    for unreadable in ("as_published", "corrected"):
        summaries = judged.summarise_reviews(reviews, unreadable=unreadable)
        assert summaries["all"] == summaries["conv"] and summaries["all"].relative == 100


def test_a_reference_without_points_leaves_the_relative_score_open():
    summary = judged.summarise_reviews([{"tuple": [0, 5]}], unreadable="as_published")["all"]
    assert summary.row == (None, 0.0, 50.0)


def test_mm_vet_answers_are_filed_under_their_questions_names():
    assert judged.mm_vet_answers({0: "One.", 12: "Two"}) == {"v1_0": "One.", "v1_12": "Two"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: judged.summarise_reviews([{"question_id": 3, "tuple": [1]}], unreadable="corrected"),
            "review of question 3 has scores [1]; two numbers are needed, reference and model, judge it again",
        ),
        (
            lambda: judged.summarise_reviews([{"question_id": 3}], unreadable="corrected"),
            "review of question 3 has scores None; two numbers are needed, reference and model, judge it again",
        ),
        (
            lambda: judged.summarise_reviews([], unreadable="skip"),
            "unreadable reviews cannot be 'skip'; they can be: as_published, corrected",
        ),
    ],
)
def test_messages_of_the_judged_scores(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
