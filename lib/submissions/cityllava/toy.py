"""The toy data of cityllava: synthetic scenes as mp4 videos with boxes and captions, in exactly the published trees (spec, section 1).

Kept from the published data: where files lie and how they are named; one text for all views of a scenario and times of their own per
view; phases listed from the last to the first; boxes of the first frame of each phase, and tracked ones beside them; no vehicle boxes
where the vehicle itself carries the camera; phase names as labels in BDD's train and val, digits elsewhere; and what is odd about
them: BDD files that claim 59.94 frames per second for 30 and count every frame twice, phases without captions or boxes, box files
that are missing, boxes that are too small, one event with a vehicle view only, cameras outside the reference list.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator, default_rng

from lib import files, media, scenes
from lib.scenes import Box, Camera, Picture, Scene, View
from lib.submissions.cityllava.captions import pedestrian_caption, vehicle_caption

PHASES = ("prerecognition", "recognition", "judgement", "action", "avoidance")
SPLITS = ("train", "val", "test")
FOLDERS = ("WTS", "BDD_PC_5k", "test_part")
ANSWERS = "toy_answers.json"
REFERENCE_VIEWS = "test_part/view_used_as_main_reference_for_multiview_scenario.csv"
NORMAL = "normal_trimmed"
KINDS = ("pedestrian", "vehicle")
WAYS = ("bbox_annotated", "bbox_generated")

WTS_FPS, BDD_FPS, WRONG_FPS = 10, 30, 59.94
FRAMES_PER_PHASE = 3
LATE = 1  # frames by which the vehicle's camera starts later
EVENT_EVERY = 4  # one scenario in so many is a normal event, with one overhead camera
WRONG_FPS_EVERY = 3
FAR_ZOOM = 0.33  # boxes of less than 1,000 square pixels

# Shares of what is odd; the first scenarios of a split show each once whatever the seed.
PHASE_MISSING, BOX_MISSING, FILE_MISSING, CAMERA_FAR = 0.02, 0.03, 0.02, 0.04


@dataclass(frozen=True)
class ToySizes:
    """Scenarios (WTS) and videos (BDD) per split."""

    train_wts: int
    train_bdd: int
    val_wts: int
    val_bdd: int
    test_wts: int
    test_bdd: int


@dataclass(frozen=True)
class _Story:
    """A scenario: its scene, the phases that have captions, and their two texts."""

    name: str
    scene: Scene
    phases: tuple[int, ...]
    texts: dict[int, dict[str, str]]


@dataclass(frozen=True)
class _Shot:
    """One video of a scenario; `start` is the number of its first frame in the scene, `kinds` those with a box file."""

    name: str
    camera: Camera
    start: int
    kinds: tuple[str, ...]
    unboxed: tuple[int, ...]  # phases without a box


@dataclass(frozen=True)
class _Places:
    """Where a corpus and split lie: folders of videos and captions, and the folder of each kind's boxes, by way of annotation."""

    videos: Path
    captions: Path
    boxes: dict[tuple[str, str], Path]


def write_toy_data(root: Path, seed: int, sizes: ToySizes) -> None:
    """Write WTS, BDD_PC_5k and test_part below `root`, and the known answers to `root/toy_answers.json`.

    Replaces earlier toy data as a whole; the answers are written last, so where they lie the data are complete. The answers:
    {split: {scenario: {digit of the phase: {attribute: value}}}}, of every phase that is captioned, in the test part asked about.
    """
    (root / ANSWERS).unlink(missing_ok=True)
    for folder in FOLDERS:
        shutil.rmtree(root / folder, ignore_errors=True)
    answers, rows = {}, []
    for number, split in enumerate(SPLITS):
        counts = getattr(sizes, f"{split}_wts"), getattr(sizes, f"{split}_bdd")
        stories = []
        for index in range(counts[0]):
            story, cameras = _write_wts(root, split, index, default_rng([seed, number, 0, index]))
            stories.append(story)
            rows += _reference_row(story.name, cameras, index)
        for index in range(counts[1]):
            stories.append(_write_bdd(root, split, index, default_rng([seed, number, 1, index])))
        answers[split] = {story.name: {str(phase): story.scene.values(phase) for phase in story.phases} for story in stories}
    files.write_text(root / REFERENCE_VIEWS, "".join(f"{line}\n" for line in ["scenario,view1,view2,view3,view4", *rows]))
    files.write_json(root / ANSWERS, answers)


def _reference_row(scenario: str, cameras: list[str], index: int) -> list[str]:
    """The scenario's line of the reference list, four cells wide: its first one names one camera only, every third has none."""
    if len(cameras) < 2 or index % 3 == 1:
        return []
    named = cameras[:1] if index == 0 else cameras
    return [",".join([scenario, *(f"{camera}.mp4" for camera in named), *[""] * (4 - len(named))])]


def _write_wts(root: Path, split: str, index: int, rng: Generator) -> tuple[_Story, list[str]]:
    """One scenario or normal event with all its cameras; returns it and the names of its overhead cameras."""
    is_event = index % EVENT_EVERY == EVENT_EVERY - 1
    name = _event_name(rng, index) if is_event else _scenario_name(rng, index)
    story = _tell(name, rng, lacks_phase=index == 2)
    overhead = [name] if is_event else [f"{name}_Camera1_0", f"{name}_192.168.0.11-1"]
    # The first event of train has a vehicle view only; the second scenario's pedestrian is annotated in the vehicle's view only.
    if split == "train" and index == EVENT_EVERY - 1:
        overhead = []
    places = _wts_places(root, split, f"{NORMAL}/{name}" if is_event else name)
    for camera in overhead:
        kinds = ("vehicle",) if index == 1 else ("pedestrian", "vehicle")
        shot = _shoot(camera, "overhead", rng, kinds, is_far=index == 4 and camera == overhead[-1])
        _write_shot(places, f"overhead_view/{camera}", story, shot, WTS_FPS)
    own = _shoot(f"{name}_vehicle_view", "vehicle", rng, ("pedestrian",), is_far=False)
    _write_shot(places, f"vehicle_view/{own.name}", story, own, WTS_FPS)
    number = int(rng.integers(1000))
    views = [("vehicle_view", LATE, f"{own.name}.mp4")]
    views += [("overhead_view", 0, [f"{camera}.mp4" for camera in overhead])] if overhead else []
    for view, start, videos in views:
        key = "overhead_videos" if view == "overhead_view" else view
        entries = [_phase_entry(story, phase, str(phase), start, WTS_FPS, told=split != "test") for phase in story.phases]
        _write_json(places.captions / view / f"{name}_caption.json", {"id": number, key: videos, "event_phase": entries})
    return story, overhead


def _write_bdd(root: Path, split: str, index: int, rng: Generator) -> _Story:
    """One video of BDD; every third claims 59.94 frames per second, and its frames are numbered twice."""
    name = f"video{1 + index + 2000 * SPLITS.index(split)}"
    is_wrong = index % WRONG_FPS_EVERY == WRONG_FPS_EVERY - 1
    story = _tell(name, rng, lacks_phase=index == 1)
    shot = _shoot(name, "vehicle", rng, ("pedestrian",), is_far=index == 3)
    places = _bdd_places(root, split)
    _write_shot(places, name, story, shot, BDD_FPS, doubled=is_wrong)
    fps = str(WRONG_FPS) if is_wrong else BDD_FPS if index % 2 else f"{BDD_FPS:.1f}"
    labels = [str(phase) if split == "test" else PHASES[phase] for phase in story.phases]
    entries = [
        _phase_entry(story, phase, label, shot.start, BDD_FPS, told=split != "test")
        for phase, label in zip(story.phases, labels, strict=True)
    ]
    document = {"id": int(rng.integers(10000)), "video_name": f"{name}.mp4", "fps": fps, "event_phase": entries}
    _write_json(places.captions / f"{name}_caption.json", document)
    return story


def _tell(name: str, rng: Generator, *, lacks_phase: bool) -> _Story:
    """A new scene and its captions, the last phase first; some phases have none."""
    scene = scenes.random_scene(rng, len(PHASES))
    lacking = int(rng.integers(len(PHASES))) if lacks_phase or rng.random() < PHASE_MISSING * len(PHASES) else None
    phases = tuple(phase for phase in reversed(range(len(PHASES))) if phase != lacking)
    texts = {}
    for phase in phases:
        values = scene.values(phase)
        texts[phase] = {"caption_pedestrian": pedestrian_caption(values, rng), "caption_vehicle": vehicle_caption(values, rng)}
    return _Story(name, scene, phases, texts)


def _shoot(name: str, view: View, rng: Generator, kinds: tuple[str, ...], *, is_far: bool) -> _Shot:
    """A camera somewhere, and which of its boxes are annotated."""
    camera = scenes.random_camera(rng, view)
    if is_far or rng.random() < CAMERA_FAR:
        camera = Camera(view, FAR_ZOOM, camera.place, camera.light)
    boxed = tuple(kind for kind in kinds if rng.random() >= FILE_MISSING)
    unboxed = tuple(phase for phase in range(len(PHASES)) if rng.random() < BOX_MISSING)
    return _Shot(name, camera, LATE if view == "vehicle" else 0, boxed, unboxed)


def _write_shot(places: _Places, name: str, story: _Story, shot: _Shot, fps: int, *, doubled: bool = False) -> None:
    """The video, and the boxes of every kind and way of annotation."""
    pictures = list(scenes.clip(story.scene, shot.camera, FRAMES_PER_PHASE))[shot.start :]
    media.write_video(places.videos / f"{name}.mp4", (picture.pixels for picture in pictures), fps)
    for (way, kind), folder in places.boxes.items():
        if kind in shot.kinds:
            entries = _box_entries(pictures, shot, kind, tracked=way == "bbox_generated", doubled=doubled)
            _write_json(folder / f"{name}_bbox.json", {"annotations": entries})


def _box_entries(pictures: list[Picture], shot: _Shot, kind: str, *, tracked: bool, doubled: bool) -> list[dict]:
    """The annotated boxes of the first frame of each phase, or the tracked ones of all frames."""
    entries = []
    for frame, picture in enumerate(pictures):
        phase = (frame + shot.start) // FRAMES_PER_PHASE
        is_first = frame == _first_frame(phase, shot.start)
        box: Box = getattr(picture, kind)
        if phase in shot.unboxed or not (tracked or is_first):
            continue
        entries.append(
            {
                "image_id": frame * 2 if doubled else frame,
                "bbox": [round(value, 2) for value in box],
                "auto-generated": tracked,
                "phase_number": str(phase),
            }
        )
    return entries


def _first_frame(phase: int, start: int) -> int:
    """The number of a phase's first frame in a video that begins with frame `start` of the scene."""
    return max(0, phase * FRAMES_PER_PHASE - start)


def _phase_entry(story: _Story, phase: int, label: str, start: int, fps: int, *, told: bool) -> dict:
    """One entry of `event_phase`; the test part tells no captions."""
    begins, ends = (_first_frame(number, start) / fps for number in (phase, phase + 1))
    texts = story.texts[phase] if told else {}
    return {"labels": [label], **texts, "start_time": f"{begins:.3f}", "end_time": f"{ends:.3f}"}


def _wts_places(root: Path, split: str, scenario: str) -> _Places:
    if split == "test":
        part, boxes = root / "test_part/WTS_DATASET_PUBLIC_TEST", root / "test_part/WTS_DATASET_PUBLIC_TEST_BBOX"
        return _Places(
            part / "videos/test/public" / scenario,
            part / "annotations/caption/test/public_challenge" / scenario,
            {("bbox_annotated", kind): boxes / f"annotations/bbox_annotated/{kind}/test/public" / scenario for kind in KINDS},
        )
    part = root / "WTS"
    return _Places(
        part / "videos" / split / scenario,
        part / "annotations/caption" / split / scenario,
        {(way, kind): part / f"annotations/{way}/{kind}" / split / scenario for way in WAYS for kind in KINDS},
    )


def _bdd_places(root: Path, split: str) -> _Places:
    if split == "test":
        part, boxes = (root / f"test_part/WTS_DATASET_PUBLIC_TEST{end}/external/BDD_PC_5K" for end in ("", "_BBOX"))
        return _Places(
            part / "videos/test/public",
            part / "annotations/caption/test/public_challenge",
            {("bbox_annotated", "pedestrian"): boxes / "annotations/bbox_annotated/test/public"},
        )
    part = root / "BDD_PC_5k"
    return _Places(
        part / "videos" / split,
        part / "annotations/caption" / split,
        {(way, "pedestrian"): part / "annotations" / way / split for way in WAYS},
    )


def _scenario_name(rng: Generator, index: int) -> str:
    """Such as 20230707_8_SN46_T1; the index keeps names apart. Days end with 27: two names of the 28th are exceptions (section 5)."""
    code = ("SN", "SY", "CN", "CY")[rng.integers(4)]
    return f"2023{rng.integers(7, 10):02d}{rng.integers(1, 28):02d}_{index + 1}_{code}{rng.integers(1, 50)}_T{rng.integers(1, 3)}"


def _event_name(rng: Generator, index: int) -> str:
    """Such as 20231013_105827_normal_192.168.0.14_1_event_2; the seconds keep names apart."""
    time = 100000 + index
    return f"202310{rng.integers(1, 28):02d}_{time}_normal_192.168.0.{rng.integers(11, 15)}_1_event_{rng.integers(1, 4)}"


def _write_json(path: Path, value: object) -> None:
    """Without waiting for the disk, as thousands of small files are written; only the answers, written last, have to be safe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
