"""The questions of CityLLaVA's inference: wording by view, order, history, and the captions in raw answers."""

import pytest

from lib.conversation import CHATML_DIRECT, Turn, next_turns, prompt
from lib.submissions.cityllava.annotations import PHASES
from lib.submissions.cityllava.filters import add_stages
from lib.submissions.cityllava.prompts import ORDERS, clean, question
from lib.submissions.cityllava.short_qa import FULL_QUESTION

RAW = " <|startoftext|> The vehicle is moving.<|im_end|> "


def test_from_above_both_are_asked_about_by_their_boxes():
    assert question("vehicle", 3, "overhead", stage_line="as_published") == (
        "This is an image in 'action' stage. \nThis picture shows the relationship between the vehicle in the blue bounding box and the "
        "pedestrian in the green bounding box. Describe the vehicle in the blue bounding box or the vehicle closest to the pedestrian "
        "based on the relative position to the pedestrian, driving status, weather conditions and road environment. And describe the "
        "age, height, clothing of the pedestrian."
    )
    assert question("pedestrian", 0, "overhead", stage_line="as_published") == (
        "This is an image in 'prerecognition' stage. \nThis picture shows the relationship between the pedestrian in the green bounding "
        "box and the vehicle in the blue bounding box. Describe the pedestrian in the green bounding box or the pedestrian closest to the "
        "vehicle based on age, height, clothing, line of sight, relative position to the vehicle, movement status, weather conditions and "
        "road environment."
    )


@pytest.mark.parametrize("view", ["vehicle", "ego"])
def test_from_the_vehicle_it_is_the_ego_vehicle(view):
    assert question("vehicle", 4, view, stage_line="as_published") == (
        "This is an image in 'avoidance' stage. \nThis picture shows the relationship between the ego-vehicle and the pedestrian in the "
        "green bounding box. Describe the ego-vehicle based on the relative position to the pedestrian, driving status, weather "
        "conditions and road environment. And describe the age, height, clothing of the pedestrian."
    )
    assert question("pedestrian", 4, view, stage_line="as_published") == (
        "This is an image in 'avoidance' stage. \nThis picture shows the relationship between the pedestrian in the green bounding box "
        "and the ego-vehicle. Describe the pedestrian in the green bounding box or the pedestrian closest to the vehicle based on age, "
        "height, clothing, line of sight, relative position to the vehicle, movement status, weather conditions and road environment."
    )


@pytest.mark.parametrize("kind", ["pedestrian", "vehicle"])
@pytest.mark.parametrize(("view", "folder"), [("overhead", "S1/overhead_view"), ("vehicle", "S1/vehicle_view")])
def test_corrected_questions_are_those_of_training(kind, view, folder):
    for phase, stage in enumerate(PHASES):
        sample = {
            "image": f"WTS/bbox_global/train/{folder}/camera/{phase}_{stage}.jpg",
            "conversations": [{"from": "human", "value": f"<image>\n{FULL_QUESTION[kind]}"}, {"from": "gpt", "value": "A caption."}],
        }
        (trained,) = add_stages([sample], ego_wording="corrected")
        assert trained["conversations"][0]["value"] == "<image>\n" + question(kind, phase, view, stage_line="corrected")


def test_only_the_line_end_differs_between_the_two_wordings():
    published, corrected = (question("vehicle", 1, "overhead", stage_line=quirk) for quirk in ("as_published", "corrected"))
    assert published.replace(" \n", " ") == corrected != published


def test_each_order_asks_each_question_once():
    assert ORDERS == {
        "vehicle_first": (("vehicle", "pedestrian"),),
        "pedestrian_first": (("pedestrian", "vehicle"),),
        "independent": (("vehicle",), ("pedestrian",)),
    }


def test_the_picture_is_in_the_first_question_and_the_first_answer_in_the_history():
    assert next_turns(["V?", "P?"], [], CHATML_DIRECT, history="as_published") == (Turn("user", "<image>\nV?"),)
    assert next_turns(["V?", "P?"], [RAW], CHATML_DIRECT, history="corrected") == (
        Turn("user", "<image>\nV?"),
        Turn("assistant", "The vehicle is moving."),
        Turn("user", "P?"),
    )


def test_as_published_the_answer_keeps_its_markers_so_that_its_end_stands_twice():
    turns = next_turns(["V?", "P?"], [RAW], CHATML_DIRECT, history="as_published")
    assert turns[1].text == "<|startoftext|> The vehicle is moving.<|im_end|>"
    assert "The vehicle is moving.<|im_end|><|im_end|><|im_start|>user\nP?" in prompt(turns, CHATML_DIRECT).text


@pytest.mark.parametrize(
    ("raw", "caption"),
    [
        (RAW, "The vehicle is moving."),
        ("<|startoftext|>The vehicle is moving.<|im_end|>", "The vehicle is moving."),
        ("The vehicle is moving.", "The vehicle is moving."),
        (" The vehicle\nis moving.\n<|im_end|>", "The vehicle\nis moving.\n"),
        ("<|im_end|>", ""),
        ("", ""),
    ],
)
def test_a_caption_is_the_answer_without_markers(raw: str, caption: str):
    assert clean(raw) == caption
