"""The extraction files of cityllava, and the one frame that stands for a phase."""

import json
from pathlib import Path

import pytest

from lib.submissions.cityllava import boxes
from lib.submissions.cityllava.annotations import Clip, Finding, Phase, PhaseBox, read_split
from lib.submissions.cityllava.boxes import BoxedFrame
from tests.cityllava_tree import CAMERA, SCENARIO, bdd_video, write_tree, wts_scenario

VIDEO = f"WTS/videos/train/{SCENARIO}/overhead_view/{CAMERA}.mp4"


def clip(**changes: object) -> Clip:
    """A clip with a pedestrian's box in phases 0 and 1 and a vehicle's in phase 0."""
    values = {
        "corpus": "wts",
        "scenario": SCENARIO,
        "view": "overhead",
        "path": VIDEO,
        "fps": None,
        "phases": (Phase(1, "1.5", "3", "A.", "B."), Phase(0, "0.0", "1.5", "A.", "B.")),
        "pedestrians": (PhaseBox(7, 0, (1.5, 2, 3, 4)), PhaseBox(50, 1, (2, 2, 3, 4))),
        "vehicles": (PhaseBox(7, 0, (10, 20, 30, 40)),),
        "present": True,
        "captioned": True,
    }
    return Clip(**values | changes)


def entry(pedestrians: dict, vehicles: dict, phases: dict) -> dict:
    """The parts of an extraction entry that are drawn."""
    return {"ped_bboxes": pedestrians, "veh_bboxes": vehicles, "phase_number": phases}


# --- the extraction files ---


def test_an_entry_is_the_published_one_key_by_key():
    assert boxes.extract([clip()]) == {
        VIDEO: {
            "start_time": 0.0,
            "end_time": 3.0,
            "ped_bboxes": {"7": [1.5, 2, 3, 4], "50": [2, 2, 3, 4]},
            "veh_bboxes": {"7": [10, 20, 30, 40]},
            "phase_number": {"7": "0", "50": "1"},
        }
    }


@pytest.mark.parametrize("fps", ["59.94", 30.0])
def test_the_rate_stays_as_the_caption_file_says_it(fps: str | float):
    assert boxes.extract([clip(corpus="bdd", fps=fps)])[VIDEO]["fps"] == fps


def test_the_vehicles_file_is_read_last_and_decides_the_phase_of_a_frame():
    changed = clip(vehicles=(PhaseBox(7, 3, (10, 20, 30, 40)),))
    assert boxes.extract([changed])[VIDEO]["phase_number"] == {"7": "3", "50": "1"}


def test_a_clip_without_boxes_or_captions_has_an_entry_and_a_missing_video_none():
    bare = clip(path="bare.mp4", phases=(), pedestrians=(), vehicles=())
    assert boxes.extract([bare, clip(present=False)]) == {"bare.mp4": {"start_time": None, "end_time": None, **entry({}, {}, {})}}


def test_each_corpus_and_split_has_its_file(tmp_path: Path):
    clips, _ = read_split(write_tree(tmp_path / "data", wts_scenario("val") | bdd_video("val")), "val")
    together = boxes.write_extractions(tmp_path / "processed_anno", clips, "val")
    written = {path.name: json.loads(path.read_text("utf-8")) for path in (tmp_path / "processed_anno/frame_bbox_anno").iterdir()}
    assert {name: len(content) for name, content in written.items()} == {
        "wts_val_all_video_with_bbox_anno_first_frame.json": 2,
        "bdd_val_all_video_with_bbox_anno_first_frame.json": 1,
    }
    assert together == {video: one for content in written.values() for video, one in content.items()}


# --- one frame per phase ---


def test_boxes_of_one_frame_stand_together():
    planned, findings = boxes.plan_frames("v", boxes.extract([clip()])[VIDEO])
    assert planned == [BoxedFrame(0, 7, (1.5, 2, 3, 4), (10, 20, 30, 40)), BoxedFrame(1, 50, (2, 2, 3, 4), None)]
    assert findings == []


def test_boxes_of_a_phase_on_different_frames_meet_on_the_first_and_are_counted():
    split = entry({"12": [1, 1, 2, 2]}, {"10": [5, 5, 2, 2]}, {"12": "0", "10": "0"})
    planned, findings = boxes.plan_frames("v", split)
    assert planned == [BoxedFrame(0, 10, (1, 1, 2, 2), (5, 5, 2, 2))]
    assert findings == [Finding("boxes of a phase on different frames", "v phase 0: 10, 12")]


def test_frame_numbers_are_compared_as_numbers_and_the_first_box_of_a_kind_counts():
    crowded = entry({"100": [1, 1, 1, 1], "9": [2, 2, 2, 2]}, {}, {"100": "2", "9": "2"})
    assert boxes.plan_frames("v", crowded)[0] == [BoxedFrame(2, 9, (2, 2, 2, 2), None)]


def test_a_phase_without_boxes_is_a_frame_to_show_as_it_is():
    assert boxes.plan_frames("v", entry({}, {}, {"3": "1"}))[0] == [BoxedFrame(1, 3, None, None)]
