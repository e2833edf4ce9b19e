"""The data side of cityllava against the recorded answers of the published code; every intended difference is named with its reason."""

import json
from pathlib import Path

import numpy as np
import pytest

from lib import geometry
from lib.submissions.cityllava import annotations, boxes, frames, records, views
from lib.submissions.cityllava.annotations import Clip
from lib.submissions.cityllava.boxes import BoxedFrame
from tests.cityllava_tree import grey_level, write_tree
from tests.golden.loading import cases

BOX_SCALE = 1.2  # the recipe's, in every recorded case
# Where the kit answers differently, and why; each is checked to be what it says.
DIFFERENCES = {
    "times": "a start of 0.0 is a start; the original takes it for missing (unused further on)",
    "vehicle view only": "an event without an overhead caption is read from its vehicle's; the original stops",
    "frame number": "a number beyond the video takes its last frame and is counted; the original stops",
    "empty crop": "the whole frame is the local picture; the original writes none, or stops",
    "different frames": "both boxes of a phase are drawn on its first frame; the original's later picture replaces the earlier one",
    "no boxes": "an empty box file is no box file; the original divides by zero",
    "name labels": "names and digits are read in both data sets; the original stops, or loses the sample",
    "tie": "of two nearest phases the earlier is taken; the original takes the one that its directory lists first",
    "local missing": "the global picture stands in; the original's inference fails on the missing one",
}


def kept_of(root: Path, tree: dict) -> Path:
    """A recorded tree below the root, its test part where the published layout has it."""
    parts = {name if not name.startswith("WTS_DATASET") else f"test_part/{name}": content for name, content in tree.items()}
    return write_tree(root, parts)


def test_boxes_are_extracted_as_published(tmp_path: Path):
    for number, case in enumerate(cases("cityllava", "extract_bbox_annotations.json")["cases"]):
        given = case["input"]
        clips, _ = annotations.read_split(kept_of(tmp_path / str(number), given["tree"]), given["split"])
        corpus = case.get("output_file", "wts").partition("_")[0]
        found = boxes.extract(clip for clip in clips if clip.corpus == corpus)
        if "error" in case["output"]:
            assert "vehicle_view" in case["name"], case["name"]
            assert found, DIFFERENCES["vehicle view only"]
            continue
        expected = {name.removeprefix("./"): entry for name, entry in case["output"]["json"].items()}
        found = {name.removeprefix("test_part/"): entry for name, entry in found.items()}
        assert found.keys() == expected.keys(), case["name"]
        for name, entry in found.items():
            for key in ("ped_bboxes", "veh_bboxes", "phase_number", "fps"):
                assert entry.get(key) == expected[name].get(key), f"{case['name']} {name} {key}"
            times = [(entry[key], expected[name][key]) for key in ("start_time", "end_time")]
            assert all(ours == theirs for ours, theirs in times) or entry["start_time"] == 0.0, DIFFERENCES["times"]


def test_box_arithmetic_is_the_published_one():
    for case in cases("cityllava", "bbox_geometry.json")["cases"]:
        given, name = case["input"], f"{case['function']} {case['input']}"
        if case["function"] == "calculate_combined_bbox":
            found = geometry.union(given["bbox1"], given["bbox2"])
        elif case["function"] == "constrain_bbox_within_frame":
            height, width = given["frame_shape"][:2]
            found = geometry.clip(given["bbox_xyxy"], width, height)
        else:
            shape = geometry.square if "square" in case["function"] else geometry.enlarge
            found = shape(given["bbox"], given["scale"])
        assert list(found) == pytest.approx(case["output"], abs=1e-9), name


def test_rectangles_crops_and_paths_are_the_published_ones():
    for case in cases("cityllava", "draw_and_crop.json")["cases"]:
        given, expected = case["input"], case["output"]
        if "frames" in given:
            check_different_frames(given)
            continue
        width, height, phase = given["frame_width"], given["frame_height"], int(given["phase_number"])
        boxed = BoxedFrame(phase, given["frame_id"], given["pedestrian_bbox"], given["vehicle_bbox"])
        local = frames.local_outlines(boxed, width, height, box_scale=BOX_SCALE)
        crop = frames.crop_of(local, width, height, crop_scale=given["scale"])
        drawn = {"global": frames.global_outlines(boxed), "local": local}
        pictures = {"global": (0, 0, width, height), "local": crop}
        for extent, outlines in drawn.items():
            if extent not in expected or "error" in expected[extent]:
                assert crop is None, f"{case['name']}: {DIFFERENCES['empty crop']}"
                continue
            rectangles = [described(outline, extent) for outline in outlines]
            assert rectangles == expected[extent]["rectangles"], f"{case['name']} {extent}"
            written = expected[extent]["written"]
            if not written:
                assert pictures[extent] is None, f"{case['name']}: {DIFFERENCES['empty crop']}"
                continue
            assert list(pictures[extent]) == written[0]["crop_xyxy"], f"{case['name']} {extent}"
            assert frames.picture_path(given["video"], phase, extent) == written[0]["file"], f"{case['name']} {extent}"


def described(outline: frames.Outline, extent: str) -> dict:
    """An outline in the words of the recorded answers, which name blue first."""
    x1, y1, x2, y2 = outline.corners
    return {"p1": [x1, y1], "p2": [x2, y2], "color_bgr": list(outline.colour[::-1]), "thickness": frames.THICKNESS[extent]}


def check_different_frames(given: dict) -> None:
    """The recorded case of a phase's boxes on two frames: one picture here, with both."""
    entry = {"ped_bboxes": given["pedestrian_bboxes"], "veh_bboxes": given["vehicle_bboxes"], "phase_number": given["phase_number"]}
    planned, findings = boxes.plan_frames("v", entry)
    assert [(frame.image_id, None in (frame.pedestrian, frame.vehicle)) for frame in planned] == [(10, False)], DIFFERENCES[
        "different frames"
    ]
    assert len(findings) == 1


def test_frame_numbers_are_the_published_ones():
    for case in cases("cityllava", "frame_index.json")["cases"]:
        given, expected = case["input"], case["output_image_id_to_frame_index"]
        ids, fps, count = given["image_ids_in_annotation_order"], given["fps_in_annotation"], given["num_decoded_frames"]
        found = {str(image_id): frames.frame_index(image_id, fps, count) for image_id in ids}
        if "error" in expected:
            outside = [image_id for image_id in ids if not 0 <= frames.decoded_number(image_id, fps) < count]
            assert outside, case
            assert all(found[str(image_id)] in (0, count - 1) for image_id in outside), DIFFERENCES["frame number"]
            continue
        assert found == expected, case


def test_best_views_are_the_published_ones():
    for case in cases("cityllava", "best_view_selection.json")["cases"]:
        given, scenario = case["input"], case["input"]["scenario"]
        found = {stem: [box for _, box, _ in rows] for stem, rows in given["pedestrian_boxes_per_camera"].items()}
        vehicle = f"{scenario}_vehicle_view"
        if given["vehicle_view_pedestrian_boxes"]:
            found[vehicle] = [box for _, box, _ in given["vehicle_view_pedestrian_boxes"]]
        for folder in given["normal_trimmed_bbox_dirs"] or ():
            found[scenario if folder == "overhead_view" else vehicle] = [(0, 0, 1, 1)]
        chosen = views.best_view(
            scenario, given["overhead_videos"], found, given["reference_views"].get(scenario), borrowed_area="as_published"
        )
        if "error" in case["output"]:
            assert any(not rows for rows in given["pedestrian_boxes_per_camera"].values()), DIFFERENCES["no boxes"]
            continue
        assert {scenario: chosen} == case["output"], case["name"]


def test_a_borrowed_area_is_the_vehicle_views_when_corrected():
    case = next(case for case in cases("cityllava", "best_view_selection.json")["cases"] if "is credited" in case.get("note", ""))
    given, scenario = case["input"], case["input"]["scenario"]
    found = {stem: [box for _, box, _ in rows] for stem, rows in given["pedestrian_boxes_per_camera"].items()}
    found[f"{scenario}_vehicle_view"] = [box for _, box, _ in given["vehicle_view_pedestrian_boxes"]]
    chosen = views.best_view(scenario, given["overhead_videos"], found, given["reference_views"][scenario], borrowed_area="corrected")
    assert chosen == f"{scenario}_vehicle_view.mp4"


@pytest.mark.parametrize("perspective", ["as_published", "corrected"])
def test_test_frames_come_from_the_published_sources(tmp_path: Path, perspective: str):
    for number, case in enumerate(cases("cityllava", "generate_test_frames.json")["cases"]):
        given, expected = case["input"], case["output"]
        if "error" in expected:
            continue
        root = write_tree(tmp_path / str(number), given["tree"])
        clips = [clip_of(root / "data", scenario, name) for scenario, name in given["best_view_for_test"].items()]
        out = root / "out"
        perspectives, _ = views.assemble_frames(
            given["best_view_for_test"], clips, root / "data", root / "data", out, perspective=perspective
        )
        is_raw = any(name.endswith(".mp4") for name in given["tree"])
        ties = {name for clip in clips for name in tied_slots(clip, given["tree"])}
        for name, picture in expected["images"].items():
            if name not in ties:
                assert abs(grey_level(out / name) - picture["gray"]) <= (6 if is_raw else 2), f"{case['name']} {name}"
        missing = {path.relative_to(out).as_posix() for path in out.rglob("*.jpg")} - expected["images"].keys()
        assert all(name.startswith("bbox_local/") for name in missing), DIFFERENCES["local missing"]
        published = {name.removeprefix("data/generate_test_frames/bbox_global/"): view for name, view in expected["perspective"].items()}
        assert perspectives.keys() == published.keys(), case["name"]
        if perspective == "as_published":
            assert perspectives == published, case["name"]
        else:
            seen_from = {clip.scenario: "overhead" if clip.view == "overhead" else "vehicle" for clip in clips}
            assert all(view == seen_from[name.partition("/")[0]] for name, view in perspectives.items()), case["name"]


def tied_slots(clip: Clip, tree: dict) -> set[str]:
    """The pictures of phases that lie between two rendered ones: DIFFERENCES["tie"]."""
    rendered = [phase for phase in range(5) if f"data/{frames.picture_path(clip.path, phase, 'global')}" in tree]
    found = set()
    for phase in range(5):
        distances = sorted(abs(other - phase) for other in rendered)[:2]
        if len(distances) == 2 and distances[0] == distances[1]:
            found |= {f"bbox_{extent}/{clip.scenario}/{phase}.jpg" for extent in ("global", "local")}
    return found


def clip_of(data: Path, scenario: str, name: str) -> Clip:
    """The clip of a best view; phases from its caption file, which only the recorded case of raw frames has."""
    public = "test_part/WTS_DATASET_PUBLIC_TEST"
    if scenario.startswith("video"):
        view, corpus, caption = (
            "ego",
            "bdd",
            f"{public}/external/BDD_PC_5K/annotations/caption/test/public_challenge/{scenario}_caption.json",
        )
        path = f"{public}/external/BDD_PC_5K/videos/test/public/{name}"
    else:
        view, corpus = ("vehicle" if "vehicle_view" in name else "overhead"), "wts"
        below = f"{'normal_trimmed/' if '_normal_' in scenario else ''}{scenario}/{view}_view"
        caption = f"{public}/annotations/caption/test/public_challenge/{below}/{scenario}_caption.json"
        path = f"{public}/videos/test/public/{below}/{name}"
    phases = ()
    if (data / caption).is_file():
        clips, _ = annotations.read_split(data, "test")
        phases = next(clip.phases for clip in clips if clip.path == path)
    return Clip(corpus, scenario, view, path, None, phases, (), (), present=True, captioned=True)


def test_records_are_the_published_ones(tmp_path: Path):
    for number, case in enumerate(cases("cityllava", "llava_format.json")["cases"]):
        data = write_tree(tmp_path / str(number), case["input"]["tree"]) / "data"
        clips, _ = annotations.read_split(data, case["input"]["split"])
        found, _ = records.build_records(clips, data)
        expected = case["output_sorted_by_image"]
        if "error" in expected:
            names = [entry["labels"][0] for tree in case["input"]["tree"].values() for entry in tree.get("event_phase", [])]
            assert any(name in annotations.PHASES for name in names), DIFFERENCES["name labels"]
            assert found, case["name"]
            continue
        lines = sorted(json.dumps(record, sort_keys=True) for record in found)
        digits_lost = [line for line in lines if line not in {json.dumps(record, sort_keys=True) for record in expected}]
        assert not digits_lost or "digit" in case["name"], f"{case['name']}: {digits_lost}"
        assert all(json.dumps(record, sort_keys=True) in lines for record in expected), case["name"]
        assert len(lines) == len(expected) + len(digits_lost), case["name"]


def test_the_thickness_and_colours_are_named_as_recorded():
    recorded = [case for case in cases("cityllava", "draw_and_crop.json")["cases"] if "frames" not in case["input"]]
    thickness = {
        extent: {rectangle["thickness"] for case in recorded for rectangle in case["output"].get(extent, {}).get("rectangles", ())}
        for extent in ("global", "local")
    }
    assert thickness == {extent: {width} for extent, width in frames.THICKNESS.items()}
    assert np.array_equal(frames.GREEN, (0, 255, 0))
