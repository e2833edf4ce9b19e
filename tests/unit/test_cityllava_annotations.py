"""The trees of cityllava: every place a file may stand, labels and numbers in either form, and findings in place of crashes."""

from collections import Counter
from pathlib import Path

import pytest

from lib.errors import DataError
from lib.submissions.cityllava import annotations
from lib.submissions.cityllava.annotations import Finding, Phase, PhaseBox
from tests.cityllava_tree import CAMERA, EVENT, PUBLIC, SCENARIO, bdd_video, boxes, phase, write_tree, wts_scenario

CAPTION = f"WTS/annotations/caption/train/{SCENARIO}/overhead_view/{SCENARIO}_caption.json"
VIDEO = f"WTS/videos/train/{SCENARIO}/overhead_view/{CAMERA}.mp4"
PEDESTRIANS = f"WTS/annotations/bbox_annotated/pedestrian/train/{SCENARIO}/overhead_view/{CAMERA}_bbox.json"
TREE = wts_scenario() | bdd_video()


def read_with(root: Path, **changes: object) -> tuple[annotations.Clip, list[Finding]]:
    """The overhead clip of a whole tree after files were changed (or left out: None), and what was found."""
    places = {"caption": CAPTION, "video": VIDEO, "pedestrians": PEDESTRIANS}
    tree = TREE | {places[name]: content for name, content in changes.items()}
    clips, findings = annotations.read_split(
        write_tree(root, {name: content for name, content in tree.items() if content is not None}), "train"
    )
    return clips[0], findings


def captions(*phases: object, **changes: object) -> dict:
    """An overhead caption file."""
    return {"id": 722, "overhead_videos": [f"{CAMERA}.mp4"], "event_phase": list(phases)} | changes


# --- what is there ---


def test_a_whole_tree_is_read_without_a_finding(tmp_path: Path):
    clips, findings = annotations.read_split(write_tree(tmp_path, TREE), "train")
    assert findings == []
    assert [(clip.corpus, clip.scenario, clip.view, clip.path) for clip in clips] == [
        ("wts", SCENARIO, "overhead", VIDEO),
        ("wts", SCENARIO, "vehicle", f"WTS/videos/train/{SCENARIO}/vehicle_view/{SCENARIO}_vehicle_view.mp4"),
        ("bdd", "video7", "ego", "BDD_PC_5k/videos/train/video7.mp4"),
    ]
    overhead, _, ego = clips
    assert overhead.phases == (Phase(0, "0.0", "1.0", "Walker 0.", "Driver 0."), Phase(1, "1.0", "2.0", "Walker 1.", "Driver 1."))
    assert overhead.pedestrians == (PhaseBox(0, 0, (8, 10, 12, 20)), PhaseBox(2, 1, (8, 10, 12, 20)))
    assert (overhead.camera, overhead.fps, overhead.present, overhead.captioned) == (CAMERA, None, True, True)
    assert (ego.fps, [box.phase for box in ego.pedestrians], ego.vehicles) == ("30.0", [0, 3], ())


def test_normal_events_stand_in_a_folder_of_their_own_and_may_have_the_vehicle_view_only(tmp_path: Path):
    folder = f"normal_trimmed/{EVENT}/vehicle_view"
    tree = {
        f"WTS/videos/val/{folder}/{EVENT}_vehicle_view.mp4": "x",
        f"WTS/annotations/caption/val/{folder}/{EVENT}_caption.json": {
            "vehicle_view": f"{EVENT}_vehicle_view.mp4",
            "event_phase": [phase("2")],
        },
        f"WTS/annotations/bbox_annotated/vehicle/val/{folder}/{EVENT}_vehicle_view_bbox.json": boxes((3, [1, 2, 3, 4], "2")),
    }
    clips, findings = annotations.read_split(write_tree(tmp_path, tree), "val")
    assert [(clip.scenario, clip.view, clip.path, len(clip.vehicles)) for clip in clips] == [
        (EVENT, "vehicle", f"WTS/videos/val/{folder}/{EVENT}_vehicle_view.mp4", 1)
    ]
    assert findings == [Finding("data set missing", "BDD_PC_5k/annotations/caption/val")]


def test_the_test_part_has_its_boxes_beside_it_and_no_captions(tmp_path: Path):
    silent = [{"labels": [str(number)], "start_time": "1", "end_time": "2"} for number in range(5)]
    place = f"{SCENARIO}/overhead_view"
    tree = {
        f"{PUBLIC}/videos/test/public/{place}/{CAMERA}.mp4": "x",
        f"{PUBLIC}/annotations/caption/test/public_challenge/{place}/{SCENARIO}_caption.json": captions(*silent),
        f"{PUBLIC}_BBOX/annotations/bbox_annotated/pedestrian/test/public/{place}/{CAMERA}_bbox.json": boxes(
            *((number, [1, 1, 5, 5], number) for number in range(5))
        ),
        f"{PUBLIC}/external/BDD_PC_5K/videos/test/public/video2.mp4": "x",
        f"{PUBLIC}/external/BDD_PC_5K/annotations/caption/test/public_challenge/video2_caption.json": {
            "fps": 30,
            "event_phase": silent[:1],
        },
        f"{PUBLIC}_BBOX/external/BDD_PC_5K/annotations/bbox_annotated/test/public/video2_bbox.json": boxes((9, [1, 2, 3, 4], "0")),
    }
    clips, findings = annotations.read_split(write_tree(tmp_path, tree), "test")
    assert findings == []
    assert [(clip.scenario, clip.path.startswith(PUBLIC), len(clip.phases), len(clip.pedestrians)) for clip in clips] == [
        (SCENARIO, True, 5, 5),
        ("video2", True, 1, 1),
    ]
    assert clips[0].phases[0] == Phase(0, "1", "2", "", "")


@pytest.mark.parametrize("folder", annotations.BDD_FOLDERS)
def test_either_spelling_of_the_bdd_folder_is_read_and_kept(tmp_path: Path, folder: str):
    clips, _ = annotations.read_split(write_tree(tmp_path, bdd_video(folder=folder)), "train")
    assert [clip.path for clip in clips] == [f"{folder}/videos/train/video7.mp4"]


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), (4, 4), (" 3 ", 3), ("avoidance", 4), ("Judgement", 2), ("5", None), ("", None), (None, None), ("03", None)],
)
def test_a_phase_is_a_digit_or_a_name_as_text_or_number(value: object, number: int | None):
    assert annotations.parse_phase(value) == number


def test_labels_and_numbers_are_read_in_every_published_form(tmp_path: Path):
    clip, findings = read_with(
        tmp_path,
        caption=captions(phase(0, 1, 2.5), phase("recognition"), {**phase("3"), "labels": "3"}),
        pedestrians=boxes(("0", ["1", 2.5, "3", 4], 0), (7.0, [1, 2, 3, 4], "recognition"), (8, [1, 2, 3, 4], "3")),
    )
    assert findings == []
    assert [(one.number, one.start_time) for one in clip.phases] == [(0, "1"), (1, "1.0"), (3, "1.0")]
    assert clip.pedestrians[:2] == (PhaseBox(0, 0, (1.0, 2.5, 3.0, 4)), PhaseBox(7, 1, (1, 2, 3, 4)))


def test_hidden_files_are_no_videos(tmp_path: Path):
    tree = TREE | {f"WTS/videos/train/{SCENARIO}/overhead_view/._{CAMERA}.mp4": "x", "BDD_PC_5k/videos/train/.DS_Store": "x"}
    clips, findings = annotations.read_split(write_tree(tmp_path, tree), "train")
    assert (len(clips), findings) == (3, [])


# --- what is missing or odd ---


def test_a_missing_video_keeps_its_captions_and_is_counted(tmp_path: Path):
    clip, findings = read_with(tmp_path, video=None)
    assert (clip.present, clip.captioned, len(clip.phases)) == (False, True, 2)
    assert findings == [Finding("video missing", VIDEO)]


def test_a_video_that_no_caption_names_is_a_clip_all_the_same(tmp_path: Path):
    clip, findings = read_with(tmp_path, caption=captions(phase("0"), overhead_videos=[]))
    assert (clip.path, clip.captioned) == (VIDEO, False)
    assert findings == [Finding("video in no caption file", VIDEO)]


@pytest.mark.parametrize(
    ("content", "reason", "thing"),
    [
        (None, "caption file missing", "{path}"),
        ("[1", "caption file unreadable", "{root}/{path}:1: not valid JSON at column 3 (Expecting ',' delimiter); is the file cut off? bring or make it again"),
        ("[]", "caption file unreadable", "{path}: expected an object, found list"),
        ({"overhead_videos": []}, "caption file without event_phase", "{path}"),
    ],
)  # fmt: skip
def test_a_scenario_without_usable_captions_still_has_its_boxes(tmp_path: Path, content: object, reason: str, thing: str):
    write_tree(tmp_path, {CAPTION.replace(f"{SCENARIO}_caption", "other"): "x"})
    clip, findings = read_with(tmp_path, caption=content)
    assert (clip.phases, clip.captioned, len(clip.pedestrians)) == ((), False, 2)
    assert findings == [Finding(reason, thing.format(root=tmp_path, path=CAPTION))]


@pytest.mark.parametrize(
    ("entry", "finding"),
    [
        (phase("5"), Finding("phase without a usable label and times", CAPTION)),
        ({**phase("1"), "labels": []}, Finding("phase without a usable label and times", CAPTION)),
        (phase("1", start="soon"), Finding("phase without a usable label and times", CAPTION)),
        ("phase", Finding("phase without a usable label and times", CAPTION)),
        (phase("prerecognition"), Finding("phase captioned twice", f"{CAPTION} prerecognition")),
    ],
)
def test_an_odd_phase_is_left_out_and_the_others_stay(tmp_path: Path, entry: object, finding: Finding):
    clip, findings = read_with(tmp_path, caption=captions(phase("0"), entry))
    assert [one.number for one in clip.phases] == [0]
    assert findings == [finding]


@pytest.mark.parametrize("text", ["", "  ", None, 7])
def test_an_empty_caption_is_counted_and_empty(tmp_path: Path, text: object):
    clip, findings = read_with(tmp_path, caption=captions(phase("0", caption_vehicle=text)))
    assert (clip.phases[0].pedestrian, clip.phases[0].vehicle) == ("Walker 0.", "")
    assert findings == [Finding("caption empty", f"{CAPTION} prerecognition")]


def test_captions_without_boxes_are_counted_by_phase(tmp_path: Path):
    _, findings = read_with(tmp_path, caption=captions(phase("0"), phase("4")))
    assert findings == [Finding("captions without boxes", f"{VIDEO} avoidance")]


@pytest.mark.parametrize(
    "entry", [("x", [1, 2, 3, 4], "0"), (1, [1, 2, 3], "0"), (1, [1, 2, 3, float("nan")], "0"), (1, None, "0"), (1, [1, 2, 3, 4], "9")]
)
def test_a_malformed_box_is_left_out(tmp_path: Path, entry: tuple):
    clip, findings = read_with(tmp_path, pedestrians=boxes((5, [1, 2, 3, 4], "0"), entry))
    assert clip.pedestrians == (PhaseBox(5, 0, (1, 2, 3, 4)),)
    assert findings == [Finding("box malformed", PEDESTRIANS)]


def test_of_two_boxes_on_one_frame_the_last_counts_with_its_phase(tmp_path: Path):
    clip, findings = read_with(tmp_path, pedestrians=boxes((5, [1, 2, 3, 4], "0"), (5, [9, 9, 9, 9], "1")))
    assert clip.pedestrians == (PhaseBox(5, 1, (9, 9, 9, 9)),)
    assert findings == [Finding("two boxes on one frame", f"{PEDESTRIANS} 5")]


@pytest.mark.parametrize(("content", "reason"), [("{", "box file unreadable"), ({"annotations": {}}, "box malformed")])
def test_a_broken_box_file_is_a_clip_without_those_boxes(tmp_path: Path, content: object, reason: str):
    clip, findings = read_with(tmp_path, pedestrians=content)
    assert (clip.pedestrians, len(clip.vehicles)) == ((), 2)
    assert [finding.reason for finding in findings] == [reason]


def test_a_scenario_in_both_trees_is_read_once(tmp_path: Path):
    twin = {f"WTS/annotations/caption/train/normal_trimmed/{SCENARIO}/overhead_view/{SCENARIO}_caption.json": captions(phase("0"))}
    clips, findings = annotations.read_split(write_tree(tmp_path, TREE | twin), "train")
    assert len(clips) == 3
    assert findings == [Finding("scenario twice", f"WTS/annotations/caption/train/normal_trimmed/{SCENARIO}")]


def test_a_bdd_video_that_two_caption_files_name_is_read_once(tmp_path: Path):
    twin = {"BDD_PC_5k/annotations/caption/train/video9_caption.json": {"video_name": "video7.mp4", "event_phase": []}}
    clips, findings = annotations.read_split(write_tree(tmp_path, TREE | twin), "train")
    assert len(clips) == 3
    assert findings == [Finding("video captioned twice", "BDD_PC_5k/annotations/caption/train/video9_caption.json")]


def test_a_rate_that_is_no_number_is_counted_and_not_used(tmp_path: Path):
    clips, findings = annotations.read_split(write_tree(tmp_path, bdd_video(fps="thirty")), "train")
    assert clips[0].fps is None
    assert Counter(finding.reason for finding in findings) == {"fps is no number": 1, "data set missing": 1}


def test_a_split_without_a_single_clip_is_unusable_and_one_line_says_so(tmp_path: Path):
    with pytest.raises(DataError) as error:
        annotations.read_split(tmp_path, "val")
    assert str(error.value) == (
        f"{tmp_path}: no video and no caption of split val: neither WTS/annotations/caption/val nor BDD_PC_5k/annotations/caption/val"
        " holds any; see data/README.md for the trees"
    )


def test_the_summary_counts_by_reason_and_names_the_first_five():
    findings = [Finding("video missing", str(number)) for number in range(7)] + [Finding("box malformed", "a")]
    assert annotations.summarize(findings) == {
        "box malformed": {"count": 1, "first": ["a"]},
        "video missing": {"count": 7, "first": ["0", "1", "2", "3", "4"]},
    }


# --- the reference list ---


def test_the_reference_list_has_a_header_and_empty_cells():
    views, findings = annotations.parse_reference_views("\ufeffScene,V1,V2,V3\r\nS1,a.mp4,, b.mp4\r\n,x.mp4\r\n\r\nS2,,,\r\nS1,c.mp4\r\n")
    assert views == {"S1": ("c.mp4",), "S2": ()}
    assert findings == [Finding("scenario twice in the reference list", "S1")]


@pytest.mark.parametrize("name", annotations.REFERENCE_FILES)
def test_the_reference_list_goes_by_two_names(tmp_path: Path, name: str):
    write_tree(tmp_path, {f"test_part/{name}": "h\nS1,a.mp4\n"})
    assert annotations.read_reference_views(tmp_path) == ({"S1": ("a.mp4",)}, [])


def test_without_a_reference_list_nothing_is_restricted(tmp_path: Path):
    views, findings = annotations.read_reference_views(tmp_path)
    assert views == {}
    assert findings == [Finding("reference list missing", "test_part/view_used_as_main_reference_for_multiview_scenario.csv")]
