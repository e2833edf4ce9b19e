"""Short free answers: normalised, scored by agreement with the annotators, written as the servers take them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import vqa
from lib.metrics.tally import Tally

# --- the normaliser ---


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The quick,  brown fox", "quick brown fox"),
        ("well-known", "well known"),
        ("well- known - and well-read", "well known and wellread"),  # touches a blank once: it goes everywhere
        ("3.50 and 4.", "3.50 and 4"),
        ("1,000", "1000"),
        ("U.S.A", "usa"),
        ("None of them", "0 of them"),
        ("A", ""),
        ("cant", "can't"),
        ("couldntve", "couldntve"),  # two apostrophes missing: not in the table
        ("Somebody'd", "somebodyd"),
        ("Id've", "id've"),  # the table's capitalised keys never fire
        ("it's", "it 's"),
        ("50% / 60%", "50% 60%"),
    ],
)
def test_an_answer_is_normalised(text, normalised):
    assert vqa.normalise_answer(text) == normalised


@given(st.text(alphabet="ab A1.,'-/?!\n\t"))
def test_a_normalised_answer_has_no_capital_no_comma_and_single_blanks(text):
    normalised = vqa.normalise_answer(text)
    assert normalised == normalised.lower() and not set(normalised) & set(",-/?!\n\t")
    assert normalised.split(" ") == normalised.split() or normalised == ""


def test_contractions_are_restored_from_spellings_that_lack_one_apostrophe():
    assert len(vqa.CONTRACTIONS) == 114  # Appendix A's 120, less two that change nothing and four capitalised ones
    for spelling, restored in vqa.CONTRACTIONS.items():
        assert spelling != restored and spelling.replace("'", "") == restored.replace("'", "")
    table = {"mightn'tve": "mightn't've", "'ow'sat": "'ow's'at", "y'alld've": "y'all'd've", "twas": "'twas", "maam": "ma'am"}
    assert table.items() <= vqa.CONTRACTIONS.items()
    assert not {"let's", "wed", "shed", "id've", "im"} & vqa.CONTRACTIONS.keys()


def test_at_most_thirty_two_periods_go():
    assert vqa.normalise_answer("." * 40 + "x") == "." * 8 + "x"


# --- VQA accuracy ---


def leave_one_out(prediction: str, answers: list[str]) -> float:
    """The definition, annotator by annotator."""
    marks = []
    for left_out in range(len(answers)):
        others = [answer for number, answer in enumerate(answers) if number != left_out]
        marks.append(min(1.0, others.count(prediction) / 3))
    return sum(marks) / len(marks)


@given(st.sampled_from("xyz"), st.lists(st.sampled_from("xyz"), min_size=10, max_size=10))
def test_vqa_accuracy_is_the_mean_over_leaving_each_annotator_out(prediction, answers):
    assert vqa.vqa_accuracy(prediction, answers) == pytest.approx(leave_one_out(prediction, answers))


@pytest.mark.parametrize(("agreeing", "mark"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_by_the_number_of_annotators_that_agree(agreeing, mark):
    answers = ["Two dogs"] * agreeing + ["cat"] * (10 - agreeing)
    assert vqa.vqa_accuracy("the 2 dogs.", answers) == pytest.approx(mark)


def test_vizwiz_is_lower_cased_only_and_right_from_three_annotators_on():
    answers = ["Coke"] * 3 + ["a coke"] * 2 + ["unanswerable"] * 5
    assert vqa.vizwiz_accuracy("coke", answers) == 1.0
    assert vqa.vizwiz_accuracy("A coke", answers) == pytest.approx(2 / 3)
    assert vqa.vizwiz_accuracy("coke.", answers) == 0.0


def test_a_set_is_scored_by_question_and_a_missing_prediction_gets_nothing():
    okvqa = [
        {"question_id": 1, "answers": [{"answer": "racing", "answer_id": number} for number in range(10)]},
        {"question_id": 2, "answers": ["pony tail"] * 2 + ["braid"] * 8},
        {"question_id": 3, "answers": ["x"] * 10},
    ]
    references = {annotation["question_id"]: vqa.answer_texts(annotation) for annotation in okvqa}
    score = vqa.score_answers(references, {"1": "Racing", 2: "pony-tail"}, vqa.vqa_accuracy)
    assert (score.correct, score.total, score.unanswered) == (pytest.approx(1.6), 3, 1)
    vizwiz = vqa.score_answers({"VizWiz_val_1.jpg": ["x"] * 10}, {"VizWiz_val_1.jpg": "X"}, vqa.vizwiz_accuracy)
    assert vizwiz == Tally(1.0, 1)


# --- TextVQA ---

REQUEST = "Answer the question using a single word or phrase."


@pytest.mark.parametrize(
    "prompt",
    [
        f"What IS it?\nReference OCR token: A, B\n{REQUEST}",
        f"Reference OCR token: A, B\nWhat IS it?\n{REQUEST}",
        f"What IS it?\n{REQUEST}",
        "OCR tokens: A, B. Question: What IS it? Short answer:",
    ],
)
def test_the_question_is_found_in_every_recorded_prompt(prompt):
    assert vqa.textvqa_question(prompt) == "what is it?"


def test_textvqa_matches_by_image_and_question():
    annotations = [
        {"image_id": "i1", "question": "What is it?", "answers": ["dakota"] * 10},
        {"image_id": "i1", "question": "Which brand?", "answers": ["nokia"] * 2 + ["nok"] * 8},
        {"image_id": "i2", "question": "What is it?", "answers": ["x"] * 10},
    ]
    predictions = [
        {"question_id": "i1", "prompt": f"which brand?\nReference OCR token: NOKIA\n{REQUEST}", "text": "Nokia"},
        {"question_id": "i1", "prompt": f"What is it?\n{REQUEST}", "text": "Dakota."},
    ]
    score = vqa.score_textvqa(annotations, predictions)
    assert (score.correct, score.total, score.unanswered) == (pytest.approx(1.6), 3, 1)


# --- VSR and the uploads ---


def test_vsr_compares_true_and_false_in_any_case():
    assert vqa.score_vsr({"1": "true", "2": "False", "3": "true"}, {"1": "True", "2": "yes"}) == Tally(1, 3, unanswered=1)


def test_vqav2_upload_holds_the_whole_split_in_its_order():
    upload = vqa.vqav2_upload([3, 1, 2], {1: "A dog.", "3": "Two"})
    assert upload == [{"question_id": 3, "answer": "2"}, {"question_id": 1, "answer": "dog"}, {"question_id": 2, "answer": ""}]


def test_vizwiz_upload_names_pictures():
    questions = [{"question_id": "VizWiz_test_00000000.jpg", "image": "VizWiz_test_00000000.jpg"}]
    predictions = {"VizWiz_test_00000000.jpg": "The can"}
    assert vqa.vizwiz_upload(questions, predictions) == [{"image": "VizWiz_test_00000000.jpg", "answer": "can"}]


# --- messages ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: vqa.vqa_accuracy("x", ["x"] * 9),
            "a question with 9 annotators' answers; VQA accuracy is defined for 10, bring the annotation again",
        ),
        (
            lambda: vqa.vizwiz_accuracy("x", []),
            "a question with 0 annotators' answers; VQA accuracy is defined for 10, bring the annotation again",
        ),
        (
            lambda: vqa.answer_texts({"question_id": 7}),
            "question 7 has no 'answers'; it has: question_id; compare with the benchmark's own file",
        ),
        (
            lambda: vqa.answer_texts({"answers": [{}]}),
            "an annotator's answer has no 'answer'; it has: nothing; compare with the benchmark's own file",
        ),
        (
            lambda: vqa.score_answers({}, {}, vqa.vqa_accuracy),
            "no reference answers to compare with; give the annotations of at least one question",
        ),
        (
            lambda: vqa.textvqa_question("What is it?"),
            "the TextVQA prompt 'What is it?' has no question; it needs the question, its scene text and the request on lines of their own",
        ),
        (
            lambda: vqa.score_textvqa([], [{"question_id": "i1", "prompt": f"What?\n{REQUEST}", "text": "x"}]),
            "TextVQA image 'i1' has no question 'what?'; are annotations and predictions of the same split?",
        ),
        (
            lambda: vqa.score_vsr({"1": "1"}, {}),
            "VSR has a label '1'; labels are true or false, bring the annotation again",
        ),
        (
            lambda: vqa.vizwiz_upload([{"question_id": "a.jpg", "image": "a.jpg"}], {}),
            "VizWiz question 'a.jpg' has no prediction; the server takes complete lists only, infer it first",
        ),
    ],
)
def test_messages_of_the_vqa_scores(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
