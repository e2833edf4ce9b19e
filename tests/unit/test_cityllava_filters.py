"""Which samples of cityllava are trained on, and in which words they ask."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.submissions.cityllava.annotations import PHASES, Finding
from lib.submissions.cityllava.filters import (
    add_stages,
    add_tags,
    check_images,
    filter_areas,
    filter_questions,
    filter_views,
    local_image,
    sample_short,
    stage_of,
    video_of,
    word_boxes,
)
from lib.submissions.cityllava.short_qa import FULL_QUESTION, SHORT_QUESTIONS

OVERHEAD = "WTS/bbox_global/train/S1/overhead_view/S1_Camera1_0/3_action.jpg"
VEHICLE = "WTS/bbox_global/train/S1/vehicle_view/S1_vehicle_view/3_action.jpg"
NORMAL = "WTS/bbox_global/train/normal_trimmed/N1/overhead_view/N1/0_prerecognition.jpg"
BDD = "BDD_PC_5k/bbox_global/train/video7_action.jpg"
VIDEOS = {
    OVERHEAD: "WTS/videos/train/S1/overhead_view/S1_Camera1_0.mp4",
    VEHICLE: "WTS/videos/train/S1/vehicle_view/S1_vehicle_view.mp4",
    NORMAL: "WTS/videos/train/normal_trimmed/N1/overhead_view/N1.mp4",
    BDD: "BDD_PC_5k/videos/train/video7.mp4",
}
ALL_SHORT = [question for group in SHORT_QUESTIONS.values() for question in group.values()]


def sample(image: str = OVERHEAD, question: str = "Q?", **more: object) -> dict:
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": "The green box.<image>\n"}]
    return {"id": "S1", "image": image, "conversations": turns, "full_flag": 0} | more


def boxes(pedestrian: dict | None = None, vehicle: dict | None = None, phases: dict | None = None) -> dict:
    """An entry of the extraction; boxes as {frame: (width, height)}, phases as {frame: number}."""
    placed = ({frame: [5.0, 5.0, *size] for frame, size in (found or {}).items()} for found in (pedestrian, vehicle))
    return dict(zip(("ped_bboxes", "veh_bboxes"), placed, strict=True)) | {"phase_number": phases or {}}


def questions(samples: list[dict]) -> list[str]:
    return [kept["conversations"][0]["value"].removeprefix("<image>\n") for kept in samples]


@pytest.mark.parametrize("image", VIDEOS)
@pytest.mark.parametrize("root", ["", "./", "./data/", "/home/videos/data/"])
def test_a_picture_finds_its_video_wherever_the_data_lay(image, root):
    assert video_of(image) == VIDEOS[image]
    tagged = add_tags([sample(image)], {root + VIDEOS[image]: boxes({"1": (5, 5)})})
    assert tagged == [sample(image) | {"tag": "P"}]


@pytest.mark.parametrize(
    ("entry", "tag"),
    [(boxes(), ""), (boxes({"1": (5, 5)}), "P"), (boxes(None, {"1": (5, 5)}), "V"), (boxes({"1": (5, 5)}, {"9": (5, 5)}), "PV")],
)
def test_the_tag_says_which_boxes_the_clip_has_in_any_phase(entry, tag):
    assert add_tags([sample()], {VIDEOS[OVERHEAD]: entry})[0]["tag"] == tag


@pytest.mark.parametrize("ask", [lambda extraction: add_tags([sample()], extraction), lambda e: filter_areas([sample()], e, threshold=1)])
def test_a_video_that_was_not_extracted_is_refused(ask):
    with pytest.raises(DataError) as caught:
        ask({VIDEOS[BDD]: boxes()})
    assert str(caught.value) == (
        f"{OVERHEAD}: its video {VIDEOS[OVERHEAD]} is not in the extracted boxes; extract those of its split again"
    )


@pytest.mark.parametrize(
    ("image", "tag", "left"),
    [(OVERHEAD, "PV", 6), (OVERHEAD, "P", 3), (OVERHEAD, "V", 2), (OVERHEAD, "", 1), (VEHICLE, "P", 6), (BDD, "P", 6), (BDD, "", 2)],
)
def test_short_questions_about_what_has_no_box_are_dropped(image, tag, left):
    asked = [sample(image, question, tag=tag) for question in ALL_SHORT]
    full = sample(image, FULL_QUESTION["vehicle"], full_flag=1)  # stays whatever it asks, tag or not
    kept, dropped = filter_questions([*asked, full])
    assert len(kept) == left + 1 and kept[-1] == full
    assert len(dropped) == 6 - left and {finding.thing for finding in dropped} <= {image}
    if tag == "V":
        assert Counter(finding.reason for finding in dropped) == {"pedestrian asked about without a box": 4}


def test_a_short_question_without_a_tag_is_refused():
    with pytest.raises(DataError) as caught:
        filter_questions([sample()])
    assert str(caught.value) == f"{OVERHEAD}: a short question without a tag; give the samples their tags first"


@given(st.lists(st.sampled_from([0, 1]), max_size=20), st.integers(0, 99))
def test_as_many_short_samples_as_full_ones_are_drawn(flags, seed):
    samples = [sample(question=f"Q{number}?", full_flag=flag) for number, flag in enumerate(flags)]
    kept, dropped = sample_short(samples, seed=seed)
    full, short = flags.count(1), flags.count(0)
    assert [one["full_flag"] for one in kept] == [1] * full + [0] * min(full, short)
    assert [one for one in samples if one in kept and one["full_flag"] == 0] == kept[full:]
    assert len(kept) + len(dropped) == len(samples)
    assert sample_short(samples, seed=seed) == (kept, dropped)


def test_another_seed_draws_other_short_samples():
    samples = [sample(question=f"Q{number}?", full_flag=int(number < 10)) for number in range(60)]
    first, second = (questions(sample_short(samples, seed=seed)[0]) for seed in (1, 2))
    assert first != second
    assert sample_short(samples, seed=1)[1][0] == Finding("short question not drawn", OVERHEAD)


def test_the_first_question_names_the_stage_and_answers_stay():
    two_turns = sample(question="Where is the pedestrian in the green box?")
    two_turns["conversations"] = [*two_turns["conversations"], *sample(question="And the blue box?")["conversations"]]
    (staged,) = add_stages([two_turns], ego_wording="corrected")
    assert [turn["value"] for turn in staged["conversations"]] == [
        "<image>\nThis is an image in 'action' stage. Where is the pedestrian in the green bounding box?",
        "The green box.<image>\n",
        "And the blue bounding box?",
        "The green box.<image>\n",
    ]
    assert two_turns["conversations"][0]["value"].startswith("<image>\nWhere")


def test_the_vehicle_that_films_has_no_box_when_corrected():
    question = SHORT_QUESTIONS["vehicle"]["b"]
    boxed, ego = "the vehicle in the blue bounding box", "the ego-vehicle"
    assert word_boxes(question, ego=False, ego_wording="corrected") == f"Describe the driving status of {boxed}."
    assert word_boxes(question, ego=True, ego_wording="as_published") == f"Describe the driving status of {boxed}."
    assert word_boxes(question, ego=True, ego_wording="corrected") == f"Describe the driving status of {ego}."
    assert word_boxes(FULL_QUESTION["vehicle"], ego=True, ego_wording="corrected") == (
        "This picture shows the relationship between the ego-vehicle and the pedestrian in the green bounding box. Describe the "
        "ego-vehicle based on the relative position to the pedestrian, driving status, weather conditions and road environment. "
        "And describe the age, height, clothing of the pedestrian."
    )


def test_a_vehicle_with_a_box_becomes_the_ego_vehicle_even_as_published():
    assert word_boxes("See the vehicle with the blue box.", ego=True, ego_wording="as_published") == "See the ego-vehicle."


def test_a_picture_without_a_stage_in_its_name_is_refused():
    assert [stage_of(f"a/{number}_{name}.jpg") for number, name in enumerate(PHASES)] == list(PHASES)
    with pytest.raises(DataError) as caught:
        stage_of("a/3_walk.jpg")
    assert str(caught.value) == (
        "a/3_walk.jpg: the file name ends with 'walk'; expected one of: prerecognition, recognition, judgement, action, avoidance"
    )


@pytest.mark.parametrize(
    ("image", "reference", "kept"),
    [
        (OVERHEAD, {"S1": ("S1_Camera1_0.mp4",)}, True),
        (OVERHEAD, {"S1": ("S1_Camera2_1.mp4",)}, False),
        (OVERHEAD, {"S1": ()}, False),
        (OVERHEAD, {"S2": ()}, True),
        (VEHICLE, {"S1": ()}, True),
        (BDD, {"S1": ()}, True),
    ],
)
def test_only_overhead_cameras_of_a_listed_scenario_have_to_be_listed(image, reference, kept):
    dropped = [] if kept else [Finding("camera not in the reference list", image)]
    assert filter_views([sample(image)], reference) == ([sample(image)] if kept else [], dropped)


@pytest.mark.parametrize(
    ("pedestrian", "vehicle", "reason"),
    [
        ((40, 40), (40, 40), None),
        ((40, 40), None, None),
        (None, (40, 40), None),
        (None, None, "no box in this phase"),
        ((0, 40), None, "no box in this phase"),
        ((40, 40), (10, 100), "vehicle too small"),
        ((10, 100), (40, 40), "pedestrian too small"),
        ((1001, 1), None, None),
        ((10, 10), (10, 10), "pedestrian and vehicle too small"),
        ((-10, 10), (40, 40), "pedestrian too small"),
    ],
)
def test_every_box_of_the_phase_has_to_exceed_the_area(pedestrian, vehicle, reason):
    entry = boxes({"7": pedestrian} if pedestrian else {}, {"7": vehicle} if vehicle else {}, {"7": "3"})
    kept, dropped = filter_areas([sample()], {VIDEOS[OVERHEAD]: entry}, threshold=1000)
    assert dropped == ([] if reason is None else [Finding(reason, OVERHEAD)])
    assert kept == ([sample()] if reason is None else [])


@pytest.mark.parametrize("phase", ["3", 3, "action"])
def test_the_last_box_of_the_phase_counts_and_other_phases_do_not(phase):
    entry = boxes({"1": (90, 90), "2": (2, 2), "3": (90, 90)}, {}, {"1": phase, "2": phase, "3": "4"})
    assert filter_areas([sample()], {VIDEOS[OVERHEAD]: entry}, threshold=1000)[1] == [Finding("pedestrian too small", OVERHEAD)]


def test_both_pictures_have_to_exist_and_the_missing_ones_are_named():
    there = {OVERHEAD, local_image(OVERHEAD), VEHICLE}
    samples = [sample(), sample(VEHICLE), sample(BDD), {"id": "text only"}]
    kept, dropped = check_images(samples, there.__contains__)
    assert kept == [samples[0], samples[3]]
    assert dropped == [
        Finding("local picture missing", "WTS/bbox_local/train/S1/vehicle_view/S1_vehicle_view/3_action.jpg"),
        Finding("global picture missing", BDD),
        Finding("local picture missing", "BDD_PC_5k/bbox_local/train/video7_action.jpg"),
    ]
