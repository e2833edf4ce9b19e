"""The toy data lie where the published ones do, with their oddities, and the same seed writes the same bytes."""

import json
import re
from pathlib import Path

import pytest

from lib import media
from lib.scenes import ATTRIBUTES
from lib.submissions.cityllava import annotations, captions, toy
from lib.submissions.cityllava.toy import ToySizes, write_toy_data

SIZES = ToySizes(train_wts=6, train_bdd=4, val_wts=3, val_bdd=3, test_wts=4, test_bdd=2)
PUBLIC = "test_part/WTS_DATASET_PUBLIC_TEST"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cityllava")
    write_toy_data(folder, 3, SIZES)
    return folder


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def answers(root: Path) -> dict:
    return read(root / "toy_answers.json")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def all_captions(root: Path, split: str) -> list[Path]:
    return sorted((root / "WTS/annotations/caption" / split).rglob("*_caption.json"))


def test_the_trees_are_the_published_ones(root: Path):
    folders = {re.sub(r"2023\d+_[^/]+", "<SCN>", str(path.parent.relative_to(root))) for path in root.rglob("*") if path.is_file()}
    views = ("overhead_view", "vehicle_view")
    wanted = {".", "test_part"}
    for split in ("train", "val"):
        wanted |= {f"BDD_PC_5k/videos/{split}"}
        wanted |= {f"BDD_PC_5k/annotations/{what}/{split}" for what in ("caption", "bbox_annotated", "bbox_generated")}
        wanted |= {f"WTS/{what}/{split}/<SCN>/{view}" for what in ("videos", "annotations/caption") for view in views}
        for way in ("bbox_annotated", "bbox_generated"):
            # No box of the vehicle itself where it carries the camera.
            wanted |= {f"WTS/annotations/{way}/pedestrian/{split}/<SCN>/{view}" for view in views}
            wanted |= {f"WTS/annotations/{way}/vehicle/{split}/<SCN>/overhead_view"}
    assert wanted - folders == set()
    beside = {folder for folder in folders - wanted if not folder.startswith("test_part/")}
    assert all("train/normal_trimmed/<SCN>/vehicle_view" in folder for folder in beside) and beside
    tests = {folder for folder in folders if folder.startswith("test_part/")}
    boxes = f"{PUBLIC}_BBOX"
    for below, view in (("", "overhead_view"), ("normal_trimmed/", "overhead_view"), ("", "vehicle_view")):
        assert f"{PUBLIC}/videos/test/public/{below}<SCN>/{view}" in tests
        assert f"{PUBLIC}/annotations/caption/test/public_challenge/{below}<SCN>/{view}" in tests
        assert f"{boxes}/annotations/bbox_annotated/pedestrian/test/public/{below}<SCN>/{view}" in tests
    assert f"{boxes}/annotations/bbox_annotated/vehicle/test/public/<SCN>/overhead_view" in tests
    assert f"{PUBLIC}/external/BDD_PC_5K/videos/test/public" in tests
    assert f"{PUBLIC}/external/BDD_PC_5K/annotations/caption/test/public_challenge" in tests
    assert f"{boxes}/external/BDD_PC_5K/annotations/bbox_annotated/test/public" in tests
    assert not [folder for folder in tests if "bbox_generated" in folder]


def test_files_are_named_as_published(root: Path):
    scenario = next(path for path in (root / "WTS/videos/train").iterdir() if "_1_" in path.name)
    assert re.fullmatch(r"2023\d{4}_1_(SN|SY|CN|CY)\d+_T\d", scenario.name)
    assert names(scenario / "overhead_view") == [f"{scenario.name}_192.168.0.11-1.mp4", f"{scenario.name}_Camera1_0.mp4"]
    assert names(scenario / "vehicle_view") == [f"{scenario.name}_vehicle_view.mp4"]
    caption = root / "WTS/annotations/caption/train" / scenario.name
    assert names(caption / "overhead_view") == [f"{scenario.name}_caption.json"]
    event = next((root / f"{PUBLIC}/videos/test/public/normal_trimmed").iterdir())
    assert re.fullmatch(r"2023\d{4}_\d{6}_normal_192\.168\.0\.\d\d_1_event_\d", event.name)
    assert names(event / "overhead_view") == [f"{event.name}.mp4"]
    assert names(root / "BDD_PC_5k/videos/train") == ["video1.mp4", "video2.mp4", "video3.mp4", "video4.mp4"]
    assert names(root / "BDD_PC_5k/annotations/bbox_annotated/val")[0] == "video2001_bbox.json"


def test_a_caption_file_of_wts(root: Path):
    path = next(path for path in all_captions(root, "train") if path.parent.name == "overhead_view")
    document = read(path)
    assert list(document) == ["id", "overhead_videos", "event_phase"]
    assert document["overhead_videos"] == [
        f"{path.name.removesuffix('_caption.json')}{end}.mp4" for end in ("_Camera1_0", "_192.168.0.11-1")
    ]
    entry = document["event_phase"][0]
    assert list(entry) == ["labels", "caption_pedestrian", "caption_vehicle", "start_time", "end_time"]
    assert entry["labels"] == ["4"] and (entry["start_time"], entry["end_time"]) == ("1.200", "1.500")


def test_all_views_of_a_scenario_tell_the_same_and_only_times_differ(root: Path):
    compared = 0
    for path in all_captions(root, "train"):
        other = path.parent.with_name("vehicle_view") / path.name
        if path.parent.name == "vehicle_view" or not other.is_file():
            continue
        mine, theirs = (read(one)["event_phase"] for one in (path, other))
        assert [(e["labels"], e["caption_pedestrian"], e["caption_vehicle"]) for e in mine] == [
            (e["labels"], e["caption_pedestrian"], e["caption_vehicle"]) for e in theirs
        ]
        assert mine[0]["start_time"] != theirs[0]["start_time"]
        assert isinstance(read(other)["vehicle_view"], str)
        compared += 1
    assert compared == 5


def test_bdd_labels_are_names_but_digits_in_the_test_part(root: Path):
    train = read(root / "BDD_PC_5k/annotations/caption/train/video1_caption.json")
    assert train["video_name"] == "video1.mp4"
    assert [entry["labels"] for entry in train["event_phase"]] == [[name] for name in reversed(toy.PHASES)]
    test = root / f"{PUBLIC}/external/BDD_PC_5K/annotations/caption/test/public_challenge"
    entries = read(next(iter(sorted(test.iterdir()))))["event_phase"]
    assert [entry["labels"] for entry in entries] == [["4"], ["3"], ["2"], ["1"], ["0"]]
    assert list(entries[0]) == ["labels", "start_time", "end_time"], "the test part tells no captions"


def test_wrong_frame_rates_of_bdd_go_with_frames_counted_twice(root: Path):
    def of(number: int) -> tuple[object, list[int]]:
        boxes = read(root / f"BDD_PC_5k/annotations/bbox_generated/train/video{number}_bbox.json")["annotations"]
        return read(root / f"BDD_PC_5k/annotations/caption/train/video{number}_caption.json")["fps"], [box["image_id"] for box in boxes]

    assert [of(number)[0] for number in (1, 2, 3, 4)] == ["30.0", 30, "59.94", 30]
    assert of(1)[1][:3] == [0, 1, 2] and of(3)[1][:3] == [0, 2, 4]
    facts = media.video_facts(root / "BDD_PC_5k/videos/train/video3.mp4")
    assert (facts.fps, facts.frames) == (30.0, 14)


def test_boxes_are_on_the_first_frame_of_each_phase_and_tracked_ones_on_all(root: Path):
    folder = next(root.glob("WTS/annotations/bbox_annotated/pedestrian/train/2023*_1_*/overhead_view"))
    path = min(folder.iterdir())
    found = read(path)["annotations"]
    assert list(found[0]) == ["image_id", "bbox", "auto-generated", "phase_number"]
    assert {(box["image_id"], box["phase_number"]) for box in found} <= {(3 * phase, str(phase)) for phase in range(5)}
    assert not any(box["auto-generated"] for box in found)
    tracked = read(Path(str(path).replace("bbox_annotated", "bbox_generated")))["annotations"]
    assert len(tracked) == 3 * len(found) and all(box["auto-generated"] for box in tracked)
    own = next(root.glob("WTS/annotations/bbox_annotated/pedestrian/train/2023*_1_*/vehicle_view/*"))
    assert [box["image_id"] for box in read(own)["annotations"]] == [0, 2, 5, 8, 11], "the vehicle's camera starts one frame later"


def test_times_and_frame_numbers_agree(root: Path):
    clips, _ = annotations.read_split(root, "train")
    for clip in clips:
        fps = 10 if clip.corpus == "wts" else 30
        counted_twice = clip.corpus == "bdd" and float(clip.fps) > 40
        starts = {phase.number: float(phase.start_time) for phase in clip.phases}
        for box in (*clip.pedestrians, *clip.vehicles):
            if box.phase in starts:
                assert round(starts[box.phase] * fps) == box.image_id // (2 if counted_twice else 1)


def test_what_is_odd_is_there_once_in_a_small_set_already(root: Path):
    clips, findings = annotations.read_split(root, "train")
    assert {"captions without boxes"} >= {finding.reason for finding in findings}
    assert any(len(clip.phases) == 4 for clip in clips), "a phase without captions"
    areas = [box.box[2] * box.box[3] for clip in clips for box in clip.pedestrians]
    assert 0 < sum(area <= 1000 for area in areas) < len(areas) / 4
    event = next(clip for clip in clips if "normal" in clip.scenario)
    assert [clip.view for clip in clips if clip.scenario == event.scenario] == ["vehicle"], "an event without an overhead view"
    second = [clip for clip in clips if re.search(r"^\d{8}_2_", clip.scenario)]
    assert [bool(clip.pedestrians) for clip in second if clip.view == "overhead"] == [False, False]


def test_the_reference_list_names_one_camera_all_or_nothing(root: Path):
    lines = (root / toy.REFERENCE_VIEWS).read_text().splitlines()
    assert lines[0] == "scenario,view1,view2,view3,view4"
    assert all(line.count(",") == 4 for line in lines)
    views, findings = annotations.read_reference_views(root)
    assert findings == [] and {len(named) for named in views.values()} == {1, 2}
    assert len(views) == len(lines) - 1
    assert set(views) < {scenario for split in answers(root).values() for scenario in split}


def test_readers_find_everything_and_every_video_opens(root: Path):
    counts = {}
    for split in toy.SPLITS:
        clips, _ = annotations.read_split(root, split)
        assert all(clip.present and clip.captioned for clip in clips)
        counts[split] = len(clips)
        assert {clip.scenario for clip in clips} == set(answers(root)[split])
    assert counts == {"train": 5 * 3 + 1 + 4, "val": 3 * 3 + 3, "test": 3 * 3 + 2 + 2}
    frames = media.read_frames(next(root.glob("WTS/videos/val/*/overhead_view/*.mp4")), [0, 14])
    assert frames[0].shape == (160, 256, 3)


def test_answers_are_what_the_captions_say(root: Path):
    known = answers(root)
    for split in ("train", "val"):
        clips, _ = annotations.read_split(root, split)
        for clip in clips:
            assert list(known[split][clip.scenario]) == [str(phase.number) for phase in clip.phases]
            for phase in clip.phases:
                values = known[split][clip.scenario][str(phase.number)]
                assert list(values) == list(ATTRIBUTES)
                for kind in ("pedestrian", "vehicle"):
                    found = captions.clauses(getattr(phase, kind))
                    assert all(found[name] == values[name] for name in captions.NAMED[kind])


def test_no_scene_is_in_two_splits(root: Path):
    known = answers(root)
    scenes = [json.dumps(phases, sort_keys=True) for split in toy.SPLITS for phases in known[split].values()]
    assert len(set(scenes)) == len(scenes)
    assert len({name for split in toy.SPLITS for name in known[split]}) == len(scenes)


def test_the_same_seed_writes_the_same_bytes_and_another_one_another(tmp_path: Path):
    small = ToySizes(1, 1, 1, 1, 1, 1)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        write_toy_data(tmp_path / name, seed, small)
    first, again, other = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("first", "again", "other")
    )
    assert first == again != other


def test_writing_anew_leaves_nothing_of_the_data_before(tmp_path: Path):
    write_toy_data(tmp_path, 1, ToySizes(2, 1, 1, 1, 1, 1))
    (tmp_path / "WTS/videos/train/stray.mp4").touch()
    write_toy_data(tmp_path, 2, ToySizes(1, 1, 1, 1, 1, 1))
    assert len(names(tmp_path / "WTS/videos/train")) == 1
    assert names(tmp_path) == ["BDD_PC_5k", "WTS", "test_part", "toy_answers.json"]
