"""POPE's confusion and MME's scores, by examples computed by hand: MME's official tool left no recorded answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import yes_no
from lib.metrics.tally import Tally
from lib.metrics.yes_no import MmeRow

# --- POPE ---


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes", "yes"),
        ("No, there is not", "no"),
        ("There is no dog.", "no"),
        ("I am not sure", "no"),
        ("Yes. No.", "yes"),  # only the first sentence counts
        ("NO", "yes"),
        ("None", "yes"),
        ("No!", "yes"),
        ("", "yes"),
    ],
)
def test_the_label_of_a_pope_answer(text, label):
    assert yes_no.pope_label(text) == label


def test_pope_counts_yes_as_positive():
    score = yes_no.score_pope(["yes", "yes", "yes", "no", "no"], ["Yes", "Yes", "No", "Yes", "No"])
    assert score == yes_no.Confusion(true_positive=2, false_positive=1, true_negative=1, false_negative=1)
    assert score.accuracy == 0.6 and score.yes_ratio == 0.6
    assert score.precision == score.recall == score.f1 == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["Yes", "No"]))))
def test_pope_rates_are_shares_even_of_nothing(pairs):
    score = yes_no.score_pope([label for label, _ in pairs], [answer for _, answer in pairs])
    assert score.total == len(pairs)
    assert all(0 <= rate <= 1 for rate in (score.accuracy, score.precision, score.recall, score.f1, score.yes_ratio))
    assert score.accuracy == (sum(label == answer.lower() for label, answer in pairs) / len(pairs) if pairs else 0.0)


# --- MME ---


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("YES, it is", "yes"),
        ("not sure", "no"),
        ("nope", "no"),
        ("none", "no"),
        ("I know", "other"),
        ("know", "no"),
        ("Eyes", "yes"),
        ("The answer is yes", "other"),
        ("", "other"),
    ],
)
def test_the_label_of_an_mme_answer(text, label):
    assert yes_no.mme_label(text) == label


def rows(*marks: tuple[str, str, str]) -> list[MmeRow]:
    """Rows from (file, truth, answer)."""
    return [MmeRow(file, f"{number}?", truth, answer) for number, (file, truth, answer) in enumerate(marks)]


COLOR = rows(("1.txt", "Yes", "yes"), ("1.txt", "No", "no"), ("2.txt", "Yes", "Yes."), ("2.txt", "No", "Yes"))
OCR = rows(("1.txt", "Yes", "It is"), ("1.txt", "No", "no"))
CODE = rows(("1.txt", "Yes", "yes"), ("1.txt", "No", "No"))


def test_mme_adds_accuracy_and_accuracy_of_images_with_both_right():
    score = yes_no.score_mme({"color": COLOR, "OCR": OCR, "code_reasoning": CODE})
    assert score.categories["color"] == yes_no.MmeCategory(questions=Tally(3, 4), images=Tally(1, 2), other=0)
    assert score.categories["color"].score == 75 + 50
    assert score.categories["OCR"] == yes_no.MmeCategory(questions=Tally(1, 2), images=Tally(0, 1), other=1)
    assert (score.perception, score.cognition, score.total) == (125 + 50, 200, 375)
    assert "existence" in score.absent and "color" not in score.absent and len(score.absent) == 11


def test_a_perfect_mme_has_the_published_maxima():
    score = yes_no.score_mme(dict.fromkeys(yes_no.PERCEPTION + yes_no.COGNITION, CODE))
    assert (score.perception, score.cognition, score.total, score.absent) == (2000, 800, 2800, ())


@given(st.permutations(COLOR))
def test_the_questions_of_an_image_are_paired_wherever_they_stand(shuffled):
    assert yes_no.score_mme({"color": shuffled}) == yes_no.score_mme({"color": COLOR})


def mme_answer(question_id: str, question: str, text: str) -> dict:
    return {"question_id": question_id, "prompt": f"{question}\nAnswer the question using a single word or phrase.", "text": text}


TRUTH = yes_no.mme_truth(
    {
        ("code_reasoning", "0020.txt"): "Is it C? Please answer yes or no.\tYes\nIs it D? Please answer yes or no.\tNo\n",
        ("artwork", "14777.txt"): "Is it art?  Please answer yes or no.\tYes\nIs it  new? Please answer yes or no.\tNo",
    }
)


def test_answers_find_their_truth_under_mmes_wording_with_one_blank_or_two():
    answers = [
        mme_answer("code_reasoning/0020.png", "Is it C?", "Yes"),
        mme_answer("artwork/images/14777.jpg", "Is it art?", "Yes\tand\nhow"),
        mme_answer("code_reasoning/0020.png", "Is it D?", "No"),
        mme_answer("artwork/images/14777.jpg", "Is it  new?", "No"),
        mme_answer("code_reasoning/0020.png", "Is it D?", "Yes"),  # asked again: the first answer stays
    ]
    found = yes_no.mme_rows(answers, TRUTH)
    assert list(found) == ["code_reasoning", "artwork"]
    assert [(row.question, row.truth, row.answer) for row in found["code_reasoning"]] == [
        ("Is it C? Please answer yes or no.", "Yes", "Yes"),
        ("Is it D? Please answer yes or no.", "No", "No"),
    ]
    assert yes_no.mme_lines(found["artwork"]) == [
        "14777.txt\tIs it art?  Please answer yes or no.\tYes\tYes and how",
        "14777.txt\tIs it  new? Please answer yes or no.\tNo\tNo",
    ]
    assert yes_no.score_mme(found).total == 400


def test_a_prompt_in_mmes_own_words_is_kept():
    answer = {"question_id": "code_reasoning/0020.png", "prompt": "Is it C? Please answer yes or no.", "text": "yes"}
    assert [row.truth for row in yes_no.mme_rows([answer], TRUTH)["code_reasoning"]] == ["Yes"]


@given(st.text(alphabet="yesno\t\n .x", max_size=8))
def test_blanks_for_tabs_and_line_ends_change_no_label(answer):
    line = yes_no.mme_lines([MmeRow("1.txt", "?", "Yes", answer)])[0]
    assert line.count("\t") == 3 and "\n" not in line
    assert yes_no.mme_label(line.split("\t")[3]) == yes_no.mme_label(answer)


# --- messages ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: yes_no.score_pope(["yes"], []),
            "POPE has 1 labels and 0 answers; one answer per label is needed, in the same order",
        ),
        (
            lambda: yes_no.score_pope(["maybe"], ["Yes"]),
            "POPE has a label 'maybe'; labels are yes or no, bring the annotation again",
        ),
        (
            lambda: yes_no.mme_truth({("color", "1.txt"): "Red? Please answer yes or no.\tYes\nBlue?"}),
            "MME's color/1.txt:2 is 'Blue?'; a question, a tab and Yes or No are needed",
        ),
        (
            lambda: yes_no.mme_truth({("color", "1.txt"): "Red?\tperhaps"}),
            "MME's color/1.txt:1 is 'Red?\\tperhaps'; a question, a tab and Yes or No are needed",
        ),
        (
            lambda: yes_no.mme_rows([{"question_id": "color/1.jpg", "text": "Yes"}], {}),
            "an MME prediction has no 'prompt'; it has: question_id, text; compare with the benchmark's own file",
        ),
        (
            lambda: yes_no.mme_rows([mme_answer("1.jpg", "Red?", "Yes")], {}),
            "MME question '1.jpg' names no category; ids are like color/images/0001.jpg, bring the question file again",
        ),
        (
            lambda: yes_no.mme_rows([mme_answer("color/1.jpg", "Red?", "Yes")], {}),
            "MME's color/1.txt has no question 'Red? Please answer yes or no.'; are questions and answers of the same release?",
        ),
        (
            lambda: yes_no.score_mme({"colour": []}),
            f"MME has no category 'colour'; it has: {', '.join(yes_no.PERCEPTION + yes_no.COGNITION)}",
        ),
        (
            lambda: yes_no.score_mme({"color": COLOR[:3]}),
            "MME's color/2.txt has 1 answers; every image has 2 questions with one answer each, infer it again",
        ),
    ],
)
def test_messages_of_yes_and_no(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
