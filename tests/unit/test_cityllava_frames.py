"""Pictures of cityllava: which frame, where, what is drawn to the pixel, the crop, and videos that are not as they should be."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.errors import DiskFull
from lib.submissions.cityllava import frames
from lib.submissions.cityllava.annotations import Finding
from lib.submissions.cityllava.boxes import BoxedFrame
from tests.cityllava_tree import STILL, write_tree

VIDEO = "WTS/videos/train/S1/overhead_view/S1_Camera1_0.mp4"
GLOBAL = "WTS/bbox_global/train/S1/overhead_view/S1_Camera1_0/0_prerecognition.jpg"
LOCAL = GLOBAL.replace("global", "local")
RECIPE = {"box_scale": 1.2, "crop_scale": 1.5}

# What OpenCV draws for the corners (4, 3) and (11, 9) with a thickness of 3, and of 4.
OPENCV = """
................
....########....
...##########...
..############..
..############..
..############..
..#####..#####..
..############..
..############..
..############..
...##########...
....########....
................
"""


def entry(pedestrians: dict, vehicles: dict | None = None, **more: object) -> dict:
    """An extraction entry whose boxed frames all belong to phase 0, unless `phase_number` says otherwise."""
    vehicles = vehicles or {}
    phases = dict.fromkeys(pedestrians | vehicles, "0")
    return {"ped_bboxes": pedestrians, "veh_bboxes": vehicles, "phase_number": phases, **more}


def render(root: Path, found: dict, *, workers: int = 1) -> list[Finding]:
    """Render an extraction of videos below the root into root/out."""
    return frames.render_videos(root, found, root / "out", workers=workers, **RECIPE)


def pixels(path: Path) -> np.ndarray:
    """A picture as RGB numbers (H, W, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


# --- which frame, which file ---


@pytest.mark.parametrize(
    ("image_id", "fps", "count", "index"),
    [
        (30, None, 300, 30),
        (300, None, 300, 299),  # published: lowered by one if it is the last
        (301, None, 300, 299),  # published: stops
        (57, "59.94", 150, 28),
        (21, "30.0", 300, 21),
        (21, 40, 300, 21),
        (21, 40.1, 300, 10),
        (-3, None, 300, 0),
    ],
)
def test_the_frame_of_a_number(image_id: int, fps: object, count: int, index: int):
    assert frames.frame_index(image_id, fps, count) == index


@given(st.integers(-100, 10_000), st.sampled_from([None, "30", "59.94"]), st.integers(1, 5000))
def test_every_number_has_a_frame_inside_the_video(image_id: int, fps: str | None, count: int):
    assert 0 <= frames.frame_index(image_id, fps, count) < count


def test_pictures_stand_where_the_published_scripts_put_them():
    assert frames.picture_path(VIDEO, 0, "global") == GLOBAL
    assert frames.picture_path(VIDEO, 0, "local") == LOCAL
    assert frames.picture_path("BDD_PC_5k/videos/train/video1004.mp4", 3, "local") == "BDD_PC_5k/bbox_local/train/video1004_action.jpg"
    event = "test_part/WTS_DATASET_PUBLIC_TEST/videos/test/public/normal_trimmed/E/vehicle_view/E_vehicle_view.mp4"
    place = "test_part/WTS_DATASET_PUBLIC_TEST/bbox_global/test/public/normal_trimmed/E/vehicle_view/E_vehicle_view/2_judgement.jpg"
    assert frames.picture_path(event, 2, "global") == place


# --- drawing ---


@pytest.mark.parametrize("thickness", [3, 4])
def test_rectangles_are_those_of_opencv_to_the_pixel(thickness: int):
    picture = np.zeros((13, 16, 3), np.uint8)
    frames.draw(picture, [frames.Outline((4, 3, 11, 9), frames.GREEN)], thickness=thickness)
    assert ["".join("#" if pixel[1] else "." for pixel in row) for row in picture] == OPENCV.split()
    assert picture[..., [0, 2]].max() == 0


def test_a_rectangle_without_size_is_a_dot():
    picture = np.zeros((7, 7, 3), np.uint8)
    frames.draw(picture, [frames.Outline((3, 3, 3, 3), frames.BLUE)], thickness=4)
    rows, columns = np.nonzero(picture[..., 2])
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        (row, column) for row in range(7) for column in range(7) if abs(row - 3) + abs(column - 3) <= 2
    ]


@given(st.tuples(*[st.integers(-30, 60)] * 4), st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_drawing_into_a_part_is_the_part_of_drawing_into_the_whole(corners: tuple[int, int, int, int], origin: tuple[int, int]):
    whole, part = np.zeros((40, 40, 3), np.uint8), np.zeros((15, 15, 3), np.uint8)
    outlines = [frames.Outline(corners, frames.GREEN)]
    frames.draw(whole, outlines, thickness=3)
    frames.draw(part, outlines, thickness=3, origin=origin)
    x, y = origin
    assert np.array_equal(part, whole[y : y + 15, x : x + 15])


def test_the_vehicle_is_drawn_over_the_pedestrian():
    boxed = BoxedFrame(0, 0, (10, 10, 20, 20), (10, 10, 20, 20))
    whole, _, _ = frames.render_frame(np.zeros((60, 60, 3), np.uint8), boxed, **RECIPE)
    assert tuple(whole[10, 10]) == frames.BLUE


# --- the crop ---


def test_the_worked_example_of_the_specification():
    boxed = BoxedFrame(0, 100, (800, 400, 60, 150), (1000, 350, 300, 200))
    local = frames.local_outlines(boxed, 1920, 1080, box_scale=1.2)
    assert [outline.corners for outline in local] == [(794, 385, 866, 565), (970, 330, 1330, 570)]
    assert frames.crop_of(local, 1920, 1080, crop_scale=1.5) == (660, 48, 1464, 852)


def test_the_local_picture_is_the_crop_with_its_own_boxes_and_the_global_one_does_not_show_through():
    boxed = BoxedFrame(0, 0, (50, 40, 20, 10), None)
    whole, part, reasons = frames.render_frame(np.zeros((100, 120, 3), np.uint8), boxed, **RECIPE)
    assert (whole.shape, part.shape, reasons) == ((100, 120, 3), (36, 36, 3), [])
    # The crop begins at (42, 27): the enlarged box (48, 39)-(72, 51) is the only one in it.
    assert tuple(part[39 - 27, 48 - 42]) == frames.GREEN
    assert tuple(part[40 - 27 + 4, 50 - 42 + 4]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["pedestrian", "vehicle"])
@pytest.mark.parametrize(
    ("box", "reasons"),
    [
        ((500, 500, 50, 80), ["box reaches outside the frame", "crop empty, whole frame used"]),
        ((50, 50, 0, 0), ["crop empty, whole frame used"]),
    ],
    ids=["outside", "without size"],
)
def test_where_the_crop_is_empty_the_whole_frame_is_the_local_picture(kind: str, box: tuple, reasons: list[str]):
    boxed = BoxedFrame(0, 0, **{"pedestrian": None, "vehicle": None, kind: box})
    _, part, found = frames.render_frame(np.zeros((100, 120, 3), np.uint8), boxed, **RECIPE)
    assert (part.shape, found) == ((100, 120, 3), reasons)


def test_a_phase_without_boxes_is_shown_whole_twice():
    whole, part, reasons = frames.render_frame(np.full((20, 30, 3), 9, np.uint8), BoxedFrame(0, 0, None, None), **RECIPE)
    assert np.array_equal(whole, part)
    assert reasons == ["crop empty, whole frame used"]


# --- videos ---


def test_both_pictures_of_every_phase_are_written_below_the_output_root_only(tmp_path: Path):
    write_tree(tmp_path / "data", {VIDEO: STILL})
    found = {VIDEO: entry({"3": [20, 10, 16, 24]}, {"7": [30, 12, 10, 10]}, phase_number={"3": "0", "7": "4"})}
    assert frames.render_videos(tmp_path / "data", found, tmp_path / "out", workers=2, **RECIPE) == []
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    last = [path.replace("0_prerecognition", "4_avoidance") for path in (GLOBAL, LOCAL)]
    assert written == sorted([GLOBAL, LOCAL, *last])
    assert [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()] == ["S1_Camera1_0.mp4"]
    whole = pixels(tmp_path / "out" / GLOBAL)
    assert whole.shape == (48, 64, 3)
    assert abs(whole[2, 2] - 63).max() < 6, "frame 3 has grey 60 + 3"
    assert np.abs(whole[10, 28] - frames.GREEN).max() < 60


def test_many_workers_write_what_one_writes(tmp_path: Path):
    videos = [VIDEO.replace("S1", f"S{number}") for number in range(6)]
    write_tree(tmp_path, dict.fromkeys(videos, STILL))
    found = {video: entry({str(2 * number): [20, 10, 16, 24]}) for number, video in enumerate(videos)}
    outs = {workers: tmp_path / f"out{workers}" for workers in (1, 4)}
    for workers, out in outs.items():
        assert frames.render_videos(tmp_path, found, out, workers=workers, **RECIPE) == []
    one, four = ({path.relative_to(out): path.read_bytes() for path in out.rglob("*.jpg")} for out in outs.values())
    assert len(one) == 12
    assert one == four


def test_a_frame_number_outside_the_video_takes_the_last_frame_is_logged_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_tree(tmp_path, {VIDEO: STILL})
    with caplog.at_level(logging.WARNING):
        findings = render(tmp_path, {VIDEO: entry({"40": [20, 10, 16, 24]})})
    assert findings == [Finding("frame number outside the video", f"{VIDEO} 40 of 12")]
    assert caplog.messages == [f"{VIDEO}: frame 40 of 12 frames; frame 11 is used"]
    assert abs(pixels(tmp_path / "out" / GLOBAL)[2, 2] - 71).max() < 6


def test_a_wrong_rate_in_the_caption_halves_the_numbers_as_the_annotators_counted(tmp_path: Path):
    video = "BDD_PC_5k/videos/train/video7.mp4"
    write_tree(tmp_path, {video: STILL})
    assert render(tmp_path, {video: entry({"20": [20, 10, 16, 24]}, fps="59.94")}) == []
    assert abs(pixels(tmp_path / "out/BDD_PC_5k/bbox_global/train/video7_prerecognition.jpg")[2, 2] - 70).max() < 6


def test_two_phases_on_one_frame_do_not_show_each_others_boxes(tmp_path: Path):
    video = "BDD_PC_5k/videos/train/video7.mp4"
    write_tree(tmp_path, {video: STILL})
    both = entry({"4": [4, 4, 10, 10], "5": [40, 30, 10, 10]}, fps=60, phase_number={"4": "0", "5": "1"})
    assert render(tmp_path, {video: both}) == []
    second = pixels(tmp_path / "out/BDD_PC_5k/bbox_global/train/video7_recognition.jpg")
    assert np.ptp(second[4, 4:14], axis=-1).max() < 30, "grey, where the first phase's box would be"


def test_missing_and_damaged_videos_are_counted_and_the_others_rendered(tmp_path: Path):
    whole, damaged, missing = (VIDEO.replace("S1", name) for name in ("S1", "S2", "S3"))
    write_tree(tmp_path, {whole: STILL, damaged: "no video"})
    boxed = entry({"1": [20, 10, 16, 24]})
    findings = render(tmp_path, {damaged: boxed, whole: boxed, missing: boxed})
    reason = "not readable as a video (Invalid data found when processing input); is the file cut off? Fetch it again"
    assert findings == [
        Finding("video unreadable", f"{tmp_path / damaged}: {reason}"),
        Finding("video unreadable", f"{tmp_path / missing}: no such video"),
    ]
    assert (tmp_path / "out" / GLOBAL).is_file()


def test_a_video_without_boxes_is_not_opened(tmp_path: Path):
    assert render(tmp_path, {"nowhere.mp4": entry({})}) == []


def test_a_full_disk_is_the_error_of_a_full_disk(tmp_path: Path):
    (tmp_path / "full.jpg").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space left"):
        frames.write_picture(tmp_path / "full.jpg", b"x")
