"""LLaVA-format records of cityllava: one per phase and captioned video whose picture was rendered."""

from collections import Counter
from pathlib import Path

from lib.submissions.cityllava import records
from lib.submissions.cityllava.annotations import Finding, read_split
from lib.submissions.cityllava.frames import picture_path
from tests.cityllava_tree import CAMERA, SCENARIO, bdd_video, phase, write_tree, wts_scenario

GREY = {"gray": 9, "w": 8, "h": 8}
CAPTION = f"WTS/annotations/caption/train/{SCENARIO}/overhead_view/{SCENARIO}_caption.json"
VIDEO = f"WTS/videos/train/{SCENARIO}/overhead_view/{CAMERA}.mp4"
TREE = wts_scenario() | bdd_video()


def built(root: Path, tree: dict[str, object], *, without: tuple[str, ...] = ()) -> tuple[list[dict], list[Finding]]:
    """The records of a tree after all its global pictures, except some, were rendered below root/pictures."""
    clips, _ = read_split(write_tree(root, tree), "train")
    images = [picture_path(clip.path, one.number, "global") for clip in clips for one in clip.phases]
    write_tree(root / "pictures", {image: GREY for image in images if image not in without})
    return records.build_records(clips, root / "pictures")


def test_a_record_is_the_published_one_key_by_key(tmp_path: Path):
    found, findings = built(tmp_path, TREE)
    assert findings == []
    assert found[0] == {
        "id": SCENARIO,
        "segment": "prerecognition",
        "view": "overhead",
        "start_time": "0.0",
        "end_time": "1.0",
        "conversations": [
            {"from": "human", "value": "<image>\nPlease describe the interested pedestrian in the video."},
            {"from": "gpt", "value": "Walker 0."},
            {"from": "human", "value": "Please describe the interested vehicle in the video."},
            {"from": "gpt", "value": "Driver 0."},
        ],
        "image": f"WTS/bbox_global/train/{SCENARIO}/overhead_view/{CAMERA}/0_prerecognition.jpg",
    }
    assert list(found[0]) == ["id", "segment", "view", "start_time", "end_time", "conversations", "image"]


def test_every_phase_of_every_view_has_a_record_and_bdd_names_no_view(tmp_path: Path):
    found, _ = built(tmp_path, TREE)
    assert Counter((record["id"], record.get("view")) for record in found) == {
        (SCENARIO, "overhead"): 2,
        (SCENARIO, "vehicle"): 2,
        ("video7", None): 2,
    }


def test_names_in_wts_and_digits_in_bdd_lose_nothing(tmp_path: Path):
    tree = wts_scenario(labels=["prerecognition", "recognition"]) | bdd_video()
    tree["BDD_PC_5k/annotations/caption/train/video7_caption.json"] = {"fps": 30, "event_phase": [phase("0"), phase(3)]}
    found, findings = built(tmp_path, tree)
    assert (len(found), findings) == (6, [])
    assert [record["segment"] for record in found if record["id"] == "video7"] == ["prerecognition", "action"]


def test_a_record_without_its_picture_is_left_out_and_counted(tmp_path: Path):
    image = picture_path(VIDEO, 1, "global")
    found, findings = built(tmp_path, TREE, without=(image,))
    assert len(found) == 5
    assert findings == [Finding("record without its picture", image)]


def test_a_record_with_an_empty_caption_is_left_out_and_counted(tmp_path: Path):
    caption = {"overhead_videos": [f"{CAMERA}.mp4"], "event_phase": [phase("0", caption_vehicle=" "), phase("1")]}
    found, findings = built(tmp_path, TREE | {CAPTION: caption})
    assert len(found) == 5
    assert findings == [Finding("record with an empty caption", picture_path(VIDEO, 0, "global"))]


def test_a_video_that_no_caption_names_has_no_record(tmp_path: Path):
    caption = {"overhead_videos": [], "event_phase": [phase("0")]}
    found, findings = built(tmp_path, TREE | {CAPTION: caption})
    assert (len(found), findings) == (4, [])


def test_each_split_has_the_published_file_name():
    assert [records.file_name(split) for split in ("train", "val")] == ["wts_bdd_train.json", "wts_bdd_val.json"]
