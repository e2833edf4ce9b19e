"""Multiple choice: SEED-Bench, MMBench, A-OKVQA and ScienceQA, their uploads, and the tallies that all scorers count in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import multiple_choice, scienceqa
from lib.metrics.tally import Tally, binomial_standard_error, count_by, count_marks

ANIMALS = {"A": "cat", "B": "dog", "C": "red fox", "D": "cow"}


# --- tallies ---


@given(st.lists(st.sampled_from([0.0, 1.0, None])))
def test_a_question_without_an_answer_is_wrong_and_counted(marks):
    tally = count_marks(marks)
    assert (tally.correct, tally.total, tally.unanswered) == (marks.count(1.0), len(marks), marks.count(None))
    assert tally.percent == (marks.count(1.0) / len(marks) * 100 if marks else None)
    grouped = count_by((mark is None, mark) for mark in marks)
    assert sum(part.total for part in grouped.values()) == tally.total


def test_the_standard_error_is_binomial_and_in_percent():
    assert binomial_standard_error(0.6666, 1164) == pytest.approx(math.sqrt(0.6666 * 0.3334 / 1164))
    assert Tally(776, 1164).standard_error == pytest.approx(1.3817, abs=1e-4)  # MMBench dev: larger than the published gain, 0.52
    assert Tally(3, 3).standard_error == 0.0
    assert Tally(0, 0).percent is None and Tally(0, 0).standard_error is None


# --- SEED-Bench ---


def seed(*questions: tuple) -> dict:
    """An annotation from (id, type, data type, answer)."""
    names = ("question_id", "question_type_id", "data_type", "answer")
    types = {"Instances Counting": 5, "Scene Understanding": 1, "Action Recognition": 10}
    return {"question_type": types, "questions": [dict(zip(names, question, strict=True)) for question in questions]}


ANNOTATION = seed(("11", 5, "image", "A"), ("12", 10, "video", "B"), ("13", 1, "image", "C"), ("v14", 5, "image", "D"))


def test_seed_bench_is_scored_per_type_over_all_and_over_the_images():
    score = multiple_choice.score_seed(ANNOTATION, {11: "A", "13": "B", "v14": "D"})
    assert score.all == Tally(2, 4, unanswered=1)
    assert score.image == Tally(2, 3)
    assert list(score.by_type.items()) == [
        ("Scene Understanding", Tally(0, 1)),
        ("Instances Counting", Tally(2, 2)),
        ("Action Recognition", Tally(0, 1, unanswered=1)),
    ]
    assert score.image_by_type == {"Scene Understanding": Tally(0, 1), "Instances Counting": Tally(2, 2)}


@pytest.mark.parametrize("answer", ["a", "A.", " A", "A. One", ""])
def test_seed_bench_takes_the_bare_letter_only(answer):
    assert multiple_choice.score_seed(seed(("1", 5, "image", "A")), {1: answer}).all.correct == 0


def test_seed_bench_upload_keeps_the_annotations_ids_and_leaves_out_what_was_not_answered():
    lines = multiple_choice.seed_upload(ANNOTATION, {"v14": "D", 11: "A", 99: "B"})
    assert lines == [{"question_id": "11", "prediction": "A"}, {"question_id": "v14", "prediction": "D"}]


def test_no_image_question_leaves_the_reported_number_open():
    assert multiple_choice.score_seed(seed(("1", 10, "video", "A")), {1: "A"}).image.percent is None


# --- MMBench ---


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("[B]", "B"),
        ("A. cat", "A"),
        ("The red fox", "C"),
        ("B it is, as far as I see", None),  # the letter is no longer near the end, and no option is named
        ("B or C", None),
        ("Z", "Z"),
        ("Cannot determine the answer, perhaps A", "Z"),
        ("cow " * 40, None),  # more than twice as long as all options together
        ("E", None),
    ],
)
def test_the_letter_an_answer_means(answer, letter):
    assert multiple_choice.infer_letter(answer, ANIMALS) == letter


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}.", "Answer: {}", "The answer is {}!", "I choose [{}]"]))
def test_a_plain_letter_is_read_in_any_dress(letter, dress):
    assert multiple_choice.infer_letter(dress.format(letter), ANIMALS) == letter


def test_options_end_at_the_first_that_is_missing():
    row = {"A": "one", "B": 2, "C": float("nan"), "D": "four"}
    assert multiple_choice.mmbench_options(row) == {"A": "one", "B": "2"}
    assert multiple_choice.mmbench_options({"A": "yes", "B": "None", "C": "no"}) == {"A": "yes"}
    assert multiple_choice.mmbench_options({}) == {}


def rotations(question: int, category: str, count: int = 4) -> list[dict]:
    """Rows of a question whose right option moves by one letter per rotation."""
    texts = list(ANIMALS.values())[:count]
    rows = []
    for shift in range(count):
        options = dict(zip("ABCD", texts[-shift:] + texts[:-shift] if shift else texts, strict=False))
        rows.append({"index": question + shift * 1_000_000, "question": "?", **options, "answer": "ABCD"[shift], "category": category})
    return rows


def test_a_question_counts_when_all_its_rotations_are_right():
    rows = rotations(7, "ocr") + rotations(8, "style", count=2) + rotations(9, "ocr")
    predictions = {row["index"]: row["answer"] for row in rows}
    predictions[8] = "cat"  # by the option's text, in both rotations
    predictions[1_000_008] = "cat"
    predictions[2_000_009] = "A"
    score = multiple_choice.score_mmbench(rows, predictions)
    assert score.circular == Tally(2, 3)
    assert score.by_category == {"ocr": Tally(1, 2), "style": Tally(1, 1)}
    assert score.rows == Tally(9, 10)
    assert score.hits == {7: True, 8: True, 9: False}


def test_one_rotation_without_a_prediction_leaves_the_question_unanswered():
    score = multiple_choice.score_mmbench(rotations(7, "ocr"), {7: "A", 1_000_007: "B", "2000007": "C"})
    assert score.circular == Tally(0, 1, unanswered=1)
    assert score.rows == Tally(3, 4, unanswered=1)


@given(st.permutations(rotations(1, "a") + rotations(2, "b")), st.sets(st.integers(0, 7)))
def test_the_order_of_the_rows_is_of_no_account(rows, wrong):
    ordered = sorted(rows, key=lambda row: row["index"])
    predictions = {row["index"]: "Z" if number in wrong else row["answer"] for number, row in enumerate(ordered)}
    score, again = (multiple_choice.score_mmbench(some, predictions) for some in (rows, ordered))
    assert (score.circular, score.by_category, score.rows) == (again.circular, again.by_category, again.rows)
    assert score.circular.correct / score.circular.total <= score.rows.correct / score.rows.total


def test_the_spreadsheet_has_the_prediction_in_its_seventh_column():
    names = "index,question,hint,A,B,C,D,answer,category,image,source,l2-category,comment,split"
    rows = [dict.fromkeys(names.split(","), "x") | {"index": index} for index in (5, 1_000_005)]
    header, sheet = multiple_choice.mmbench_sheet(rows, {5: "The answer is B."})
    assert header == ["index", "question", "A", "B", "C", "D", "prediction", "answer", "split"]
    assert sheet == [[5, *["x"] * 5, "The answer is B.", "x", "x"], [1_000_005, *["x"] * 5, None, "x", "x"]]


def test_columns_that_the_table_lacks_are_not_missed():
    header, sheet = multiple_choice.mmbench_sheet([{"index": 1, "question": "?", "A": "a", "B": "b"}], {1: "A"})
    assert (header, sheet) == (["index", "question", "A", "B", "prediction"], [[1, "?", "a", "b", "A"]])


# --- A-OKVQA ---

TOWN = {
    "choices": ["St. Ives", "dog", "1.5", "1"],
    "correct_choice_idx": 0,
    "direct_answers": ["St. Ives"] * 2 + ["town"] * 8,
    "difficult_direct_answer": False,
}


@pytest.mark.parametrize(
    ("right", "prediction", "as_published", "corrected"),
    [
        (0, "St. Ives", 0, 1),  # a capital and a dot in the choice
        (1, "Dog.", 1, 1),
        (1, "Dog. It barks.", 1, 1),
        (2, "1.5", 0, 1),
        (3, "1.5", 1, 0),  # cut at its dot, another choice becomes the right one
        (1, "cat", 0, 0),
    ],
)
def test_the_published_comparison_never_finds_a_choice_with_a_capital_or_a_dot(right, prediction, as_published, corrected):
    questions = {"q": TOWN | {"correct_choice_idx": right}}
    for comparison, hits in (("as_published", as_published), ("corrected", corrected)):
        assert multiple_choice.score_aokvqa_choice(questions, {"q": prediction}, comparison=comparison) == Tally(hits, 1)


def test_direct_answers_count_the_annotators_that_agree():
    questions = {"q": TOWN, "hard": TOWN | {"difficult_direct_answer": True}, "lost": TOWN}
    for comparison, mark in (("as_published", 0.0), ("corrected", 2 / 3)):
        score = multiple_choice.score_aokvqa_direct(questions, {"q": "St. Ives", "hard": "town"}, comparison=comparison)
        assert score == Tally(mark, 2, unanswered=1)
        assert multiple_choice.score_aokvqa_direct({"q": TOWN}, {"q": "Town. Yes."}, comparison=comparison) == Tally(1.0, 1)


def test_a_choice_without_a_prediction_is_wrong():
    assert multiple_choice.score_aokvqa_choice({"q": TOWN}, {}, comparison="as_published") == Tally(0, 1, unanswered=1)


# --- ScienceQA ---

PROBLEMS = {
    "1": {"choices": ["apple", "sky"], "answer": 0, "image": None},
    "2": {"choices": ["Maine", "Texas", "Utah"], "answer": 2, "image": "image.png"},
    "3": {"choices": ["a", "b"], "answer": 1, "image": "image.png"},
}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "FAILED"),
        ("B.", "FAILED"),
        ("B. sky", "B"),
        ("B.sky", "FAILED"),
        ("I. see. The answer is C.", "C"),
        ("The answer is C", "FAILED"),  # any character has to follow
        ("The answer is C!", "C"),
        ("The answer is A. The answer is A.", "FAILED"),
        ("The answer is Q.", "Q"),
        ("", "FAILED"),
    ],
)
def test_the_letter_of_a_scienceqa_answer(text, letter):
    assert scienceqa.scienceqa_letter(text) == letter


def line(question_id: str, text: str, prompt: str = "P") -> dict:
    return {"question_id": question_id, "prompt": prompt, "text": text}


def test_missing_image_questions_stay_in_our_img_accuracy_and_drop_out_of_the_published_one():
    lines = [line("1", "A"), line("2", "C. Utah", "<image>\nP")]
    score = scienceqa.score_scienceqa(PROBLEMS, ["1", "2", "3"], lines)
    assert score.all == Tally(2, 3, unanswered=1)
    assert score.image_as_published == Tally(1, 1)
    assert score.image == Tally(1, 2, unanswered=1)
    result = scienceqa.scienceqa_result(score)
    assert result["results"] == {"1": 0, "2": 2, "3": -1} and result["outputs"]["3"] == "FAILED"
    assert (result["acc"], result["correct"], result["count"]) == (2 / 3 * 100, 2, 3)


def test_a_letter_beyond_the_choices_is_wrong_and_kept():
    score = scienceqa.score_scienceqa(PROBLEMS, ["3"], [line("3", "E", "<image>\nP")])
    wrong = scienceqa.scienceqa_output(score)["incorrect"]
    assert [(answer["parsed_ans"], answer["ground_truth"], answer["is_multimodal"]) for answer in wrong] == [("E", "B", True)]
    assert score.answers[0].index == -1


# --- messages ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binomial_standard_error(2.0, 3), "standard error of a share of 2.0 among 3; a share is 0 to 1, of at least 1 answer"),
        (lambda: binomial_standard_error(0.5, 0), "standard error of a share of 0.5 among 0; a share is 0 to 1, of at least 1 answer"),
        (
            lambda: multiple_choice.score_seed({"questions": []}, {}),
            "the SEED-Bench annotation has no 'question_type'; it has: questions; compare with the benchmark's own file",
        ),
        (
            lambda: multiple_choice.score_seed(seed(("1", 77, "image", "A")), {}),
            "SEED-Bench question '1' is of type 77; the annotation names types 1, 5, 10, compare the two",
        ),
        (
            lambda: multiple_choice.score_seed(ANNOTATION, {1: 3}),
            "the prediction of question 1 is 3; it has to be text, infer the question again",
        ),
        (
            lambda: multiple_choice.score_seed(ANNOTATION, {1: "A", "1": "B"}),
            "question 1 has two predictions, the second under '1'; keep one of them",
        ),
        (
            lambda: multiple_choice.score_mmbench([{"index": "x"}], {}),
            "a row of MMBench's table has index 'x'; it has to be a number, bring the table again",
        ),
        (
            lambda: multiple_choice.score_mmbench([{"index": 3, "A": "a", "B": "b", "answer": "C"}], {}),
            "MMBench row 3 has the answer 'C'; its options are A, B, bring the table again",
        ),
        (
            lambda: multiple_choice.mmbench_sheet([], {}),
            "no rows to make MMBench's spreadsheet from; read the benchmark's table first",
        ),
        (
            lambda: multiple_choice.score_aokvqa_choice({"q": TOWN}, {}, comparison="exact"),
            "A-OKVQA has no comparison 'exact'; it has: as_published, corrected",
        ),
        (
            lambda: multiple_choice.score_aokvqa_choice({"q": TOWN | {"correct_choice_idx": 4}}, {}, comparison="corrected"),
            "A-OKVQA question 'q' has the right choice 4; its 4 choices count from 0, bring the annotation again",
        ),
        (
            lambda: scienceqa.score_scienceqa(PROBLEMS, ["9"], []),
            "ScienceQA question '9' of the split is not among the problems; bring both files from the same release",
        ),
        (
            lambda: scienceqa.score_scienceqa(PROBLEMS, ["1"], [line("1", "A"), line("1", "B")]),
            "ScienceQA question '1' has two predictions; keep one of them",
        ),
        (
            lambda: scienceqa.score_scienceqa({"1": {"choices": ["a"], "answer": 1}}, ["1"], []),
            "ScienceQA question '1' has the answer 1; its 1 choices count from 0, at most 5, bring problems.json again",
        ),
    ],
)
def test_messages_of_multiple_choice(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
