"""Short questions of cityllava: numbering, answers in all spellings, what is counted, and the stand-in that sorts by keywords."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from lib.errors import DataError
from lib.scenes import ATTRIBUTES
from lib.services import Offline, Outcome, Request
from lib.submissions.cityllava import captions
from lib.submissions.cityllava.annotations import Finding
from lib.submissions.cityllava.short_qa import (
    FULL_QUESTION,
    GLUED,
    KINDS,
    SHORT_QUESTIONS,
    add_answers,
    build_prompt,
    build_requests,
    caption_of,
    classify,
    merge,
    number_sentences,
    parse_answer,
    split_sentences,
    stand_in,
)

PEDESTRIAN = "The pedestrian is a male in his 30s. He stands left of the vehicle. He walks slowly. The road is dry. No risk is present."
VEHICLE = "The vehicle is right of the pedestrian. It moves at 20 km/h. Overall it is safe."


def record(**changes: object) -> dict:
    turns = [("human", "<image>\nP?"), ("gpt", PEDESTRIAN), ("human", "V?"), ("gpt", VEHICLE)]
    conversations = [{"from": who, "value": value} for who, value in turns]
    return {"id": "S1", "segment": "action", "conversations": conversations, "image": "WTS/a/3_action.jpg"} | changes


def answers_of(samples: list[dict]) -> dict[str, str]:
    """Question -> answer of short samples."""
    turns = [sample["conversations"] for sample in samples if sample["full_flag"] == 0]
    return {question["value"].removeprefix("<image>\n"): answer["value"] for question, answer in turns}


def read(answer: str | None, caption: str = "One. Two. Three.", letters: str = "corrected") -> tuple[str, dict[str, int]]:
    """The labelled sentences in short, such as "a:One b:Two", and what was counted."""
    labelled, problems = parse_answer(answer, caption, letters=letters)
    return " ".join(f"{letter}:{sentence[:-1]}" for letter, sentence in labelled), dict(problems)


def test_the_numbers_of_the_prompt_are_those_of_the_sentences():
    assert number_sentences("He walks. It rains.") == "1.He walks.\n2.It rains.\n"
    assert number_sentences("Mr. T walks") == "1.Mr.\n2.T walks ."
    assert split_sentences("He walks. It rains.") == {1: "He walks", 2: "It rains"}
    assert split_sentences("He walks. . It rains. ") == {1: "He walks", 3: "It rains"}
    assert split_sentences("") == {}


def test_a_request_holds_the_published_message_and_what_the_settings_say():
    request = build_requests([record()], "vehicle", model="gpt-4", system=None, parameters={"temperature": 0})[0]
    assert request == Request("gpt-4", [{"role": "user", "content": build_prompt(VEHICLE, "vehicle")}], {"temperature": 0})
    with_system = build_requests([record()], "vehicle", model="qwen_plus", system="Be good.", parameters={})[0]
    assert with_system.messages[0] == {"role": "system", "content": "Be good."}


def test_a_record_without_captions_is_refused():
    with pytest.raises(DataError) as caught:
        caption_of(record(conversations=[]), "vehicle")
    assert str(caught.value) == "WTS/a/3_action.jpg: no caption of the vehicle; build the records again"


@pytest.mark.parametrize(
    "answer",
    [
        "1.a\n2.b\n3.c",
        "1. A\n2) b\n3: c.",
        "1a\n2 Option b\n3. option C. Line of sight",
        " 1.a (age)\n\n2.b - place\n3.c\n",
        "1.a\r\n2.b\r\n3.c",
    ],
)
def test_answers_are_read_in_all_usual_spellings(answer):
    assert read(answer) == ("a:One b:Two c:Three", {})


@pytest.mark.parametrize(
    ("answer", "labelled", "problems"),
    [
        (None, "", {"no answer": 1}),
        ("", "", {"sentence without a letter": 3}),
        ("Here you are:\n1.a\n2.b\n3.c\nHope it helps.", "a:One b:Two c:Three", {"line without number and letter": 2}),
        ("0.a\n1.a\n2.b\n3.c\n4.d", "a:One b:Two c:Three", {"no such sentence": 2}),
        ("1.a\n1.b\n2.b\n3.c", "a:One b:Two c:Three", {"sentence with two letters": 1}),
        ("2.f\n3.e", "e:Three", {"line without number and letter": 1, "sentence without a letter": 2}),
        ("1.apple\n2.b\n3.c", "b:Two c:Three", {"line without number and letter": 1, "sentence without a letter": 1}),
        (f"{'9' * 5000}.a\n1.a\n2.b\n3.c", "a:One b:Two c:Three", {"line without number and letter": 1}),
    ],
)
def test_what_cannot_be_read_is_counted_by_reason(answer, labelled, problems):
    assert read(answer) == (labelled, problems)


@pytest.mark.parametrize(
    ("answer", "labelled", "problems"),
    [
        ("1.b (relative)\n2.e\n3.c", "a:One e:Two c:Three", {}),
        ("0.a\n1.b\n2.c", "a:Three b:One c:Two", {}),
        ("1.a\n1.b\n2.c\n3.d", "a:One b:One c:Two d:Three", {}),
        ("1) a\n2.b.\n3.c\n9.a", "c:Three", {"line without number and letter": 2, "no such sentence": 1, "sentence without a letter": 2}),
    ],
)
def test_the_published_rule_finds_letters_anywhere_and_counts_from_behind(answer, labelled, problems):
    assert read(answer, letters="as_published") == (labelled, problems)


def test_blanks_after_a_caption_are_a_sentence_only_as_published():
    assert read("1.a\n2.b", "One. ", "as_published") == ("a:One b:", {})
    assert read("1.a\n2.b", "One. ") == ("a:One", {"no such sentence": 1})


def test_sentences_keep_their_number_when_a_blank_one_is_between():
    assert read("1.a\n3.b", "One. . Three.") == ("a:One b:Three", {})


@given(st.text(max_size=60), st.sampled_from(["One. Two. Three.", "", " ", "...", "One"]))
def test_no_answer_ends_the_run_and_every_line_is_accounted_for(answer, caption):
    for letters in ("as_published", "corrected"):
        labelled, problems = parse_answer(answer, caption, letters=letters)
        lines = [line for line in answer.split("\n") if line.strip()]
        assert len(labelled) + problems.total() - problems["sentence without a letter"] == len(lines)
        assert all(letter in "abcde" for letter, _ in labelled)


def test_short_samples_join_the_sentences_of_a_letter_and_the_full_one_comes_last():
    given_record = record(pedestrian_response="1.a\n2.b\n3.b\n4.d\n5.e", fps="30")
    samples, findings = merge([given_record], "pedestrian", letters="corrected", glued_question="corrected")
    questions = SHORT_QUESTIONS["pedestrian"]
    assert answers_of(samples) == {
        questions["a"]: "The pedestrian is a male in his 30s.",
        questions["b"]: "He stands left of the vehicle. He walks slowly.",
        questions["d"]: "The road is dry.",
    }
    assert samples[-1] == given_record | {
        "conversations": [
            {"from": "human", "value": f"<image>\n{FULL_QUESTION['pedestrian']}"},
            {"from": "gpt", "value": PEDESTRIAN},
        ],
        "full_flag": 1,
    }
    assert findings == []
    assert len(given_record["conversations"]) == 4


@pytest.mark.parametrize(("quirk", "end"), [("as_published", f"box.{GLUED}"), ("corrected", "box.")])
def test_the_question_on_the_driving_status_is_glued_to_another_as_published(quirk, end):
    samples, _ = merge([record(vehicle_response="1.a\n2.b\n3.e")], "vehicle", letters="corrected", glued_question=quirk)
    place, driving = answers_of(samples)
    assert place.endswith("green box.") and driving.endswith(end)


def test_a_failed_answer_leaves_the_full_sample_and_a_finding():
    records = add_answers([record(), record(image="WTS/b/3_action.jpg")], "vehicle", [Outcome(None, "time-out"), Outcome("1.a\n9.b")])
    samples, findings = merge(records, "vehicle", letters="corrected", glued_question="corrected")
    assert [sample["full_flag"] for sample in samples] == [1, 0, 1]
    assert findings == [
        Finding("vehicle answer: no answer", "WTS/a/3_action.jpg"),
        Finding("vehicle answer: no such sentence", "WTS/b/3_action.jpg"),
        Finding("vehicle answer: sentence without a letter", "WTS/b/3_action.jpg"),
        Finding("vehicle answer: sentence without a letter", "WTS/b/3_action.jpg"),
    ]


# Sentences as WTS captions have them, made up for this test.
SENTENCES = {
    ("pedestrian", "a"): [
        "The pedestrian is a female in her 20s with a height of 160 cm",
        "She wears a grey coat on her upper body and dark jeans on her lower body",
        "In his 40s, he is of male gender and stands at a height of 180 cm",
        "He also has a black cap on his head, which adds to his overall appearance",
    ],
    ("pedestrian", "b"): [
        "His body is oriented in the same direction as the vehicle, diagonally to the right in front of it",
        "The distance between the pedestrian and the vehicle is far",
        "She is positioned behind the vehicle on its left side",
    ],
    ("pedestrian", "c"): [
        "His line of sight is in the direction of travel",
        "She is unaware of the vehicle and closely watches the ground",
        "The pedestrian stands still",
        "He walks slowly and is about to cross the road",
    ],
    ("pedestrian", "d"): [
        "The weather is cloudy and the brightness is dark",
        "The road surface is wet, level asphalt",
        "It is a main road with one-way traffic and three lanes, with sidewalks on both sides",
        "The event takes place in an urban area on a weekday",
    ],
    ("pedestrian", "e"): ["There is a potential risk of a collision", "Overall, the situation is safe", "That is all"],
    ("vehicle", "a"): [
        "The vehicle is positioned diagonally to the left in front of the pedestrian and is close to him",
        "The pedestrian is visible within the vehicle's field of view",
    ],
    ("vehicle", "b"): [
        "The vehicle goes straight ahead at a speed of 30 km/h",
        "It has come to a halt after braking",
        "It is turning right",
    ],
    ("vehicle", "c"): ["The environment conditions tell of a male pedestrian in his 30s who is 170 cm tall and wears a white hat"],
    ("vehicle", "d"): ["The weather is clear with bright brightness", "There are no sidewalks and no roadside strips, but street lights"],
    ("vehicle", "e"): ["In summary, the driver is cautious and avoids an accident", "Nothing else can be said of it"],
}


@pytest.mark.parametrize(("kind", "letter", "sentence"), [(*key, sentence) for key, group in SENTENCES.items() for sentence in group])
def test_the_stand_in_sorts_sentences_like_those_of_the_published_captions(kind, letter, sentence):
    assert classify(sentence, kind) == letter


@pytest.mark.parametrize(
    ("kind", "write", "letters"),
    [("pedestrian", captions.pedestrian_caption, "aabccdd"), ("vehicle", captions.vehicle_caption, "abcdde")],
)
def test_the_stand_in_sorts_the_captions_of_the_toy_world(kind, write, letters):
    found = Counter()
    for seed in range(150):
        rng = default_rng(seed)
        caption = write({name: values[rng.integers(len(values))] for name, values in ATTRIBUTES.items()}, rng)
        found["".join(sorted(classify(sentence, kind) for sentence in split_sentences(caption).values()))] += 1
    assert found == {letters: 150}


@pytest.mark.parametrize("kind", KINDS)
def test_the_stand_in_answers_each_sentence_of_a_request_in_the_published_form(kind):
    caption = "He is 30. years old\nand tall. He walks.. The road is dry"
    requests = build_requests([record(conversations=[{"value": caption}] * 4)], kind, model="none", system=None, parameters={})
    (outcome,) = Offline(stand_in).ask(requests, lambda done: None)
    for letters in ("as_published", "corrected"):
        labelled, problems = parse_answer(outcome.text, caption, letters=letters)
        assert [sentence for _, sentence in labelled] == ["He is 30.", "years old\nand tall.", "He walks..", "The road is dry."]
        assert not problems
