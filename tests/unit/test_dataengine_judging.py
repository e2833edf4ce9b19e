"""LLaVA-Bench's judge: what it is asked, what the stand-in says, how reviews become the published rows."""

from lib.metrics.judged import summarise_reviews
from lib.services import Outcome
from lib.submissions.dataengine import judging

REFERENCES = {
    "questions": [
        {"question_id": 0, "image": "001.jpg", "category": "conv", "text": "What is the weather like?"},
        {"question_id": 1, "image": "002.jpg", "category": "detail", "text": "Describe it."},
    ],
    "context": [{"image": "001.jpg", "caption": "A rainy road."}, {"image": "002.jpg", "caption": ["A bus.", "It is red."]}],
    "answers_gpt4": [{"question_id": 0, "text": "It is rainy"}, {"question_id": 1, "text": "A red bus stops"}],
}
LINES = [{"question_id": 0, "text": "It is rainy"}, {"question_id": 1, "text": "A blue bus"}]


def test_the_judge_sees_picture_question_and_both_answers_in_their_order():
    first, second = judging.build_requests(REFERENCES, LINES, model="judge")
    text = first.messages[-1]["content"]
    order = [
        text.index(part) for part in ("A rainy road.", "What is the weather like?", "[Answer of assistant 1]", "[Answer of assistant 2]")
    ]
    assert order == sorted(order) and text.endswith(judging.RULES) and first.messages[0]["role"] == "system"
    assert "A bus.\nIt is red." in second.messages[-1]["content"] and first.model == "judge"


def test_the_stand_in_counts_the_words_of_the_reference():
    said = [judging.stand_in(request).split("\n")[0] for request in judging.build_requests(REFERENCES, LINES, model="offline")]
    assert said == ["10 10", "10 5"]


def test_reviews_have_the_published_fields_and_minus_one_where_no_scores_can_be_read():
    outcomes = [Outcome("8 6\nThe second is shorter."), Outcome("I would say 8 of 10")]
    reviews = judging.read_reviews(REFERENCES, LINES, outcomes)
    assert [(one["question_id"], one["category"], one["tuple"]) for one in reviews] == [
        (0, "llava_bench_conv", [8.0, 6.0]),
        (1, "llava_bench_detail", [-1, -1]),
    ]
    rows = judging.summary_rows(summarise_reviews(reviews[:1], unreadable="as_published"))
    assert rows[0] == {"category": "all", "model / reference, percent": 75.0, "reference x 10": 80.0, "model x 10": 60.0}
