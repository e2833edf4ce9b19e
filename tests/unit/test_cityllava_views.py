"""Best view and test frames of cityllava: the published rules, their two defects as switches, and what fills the gaps."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.submissions.cityllava import views
from lib.submissions.cityllava.annotations import Clip, Finding, Phase, PhaseBox
from lib.submissions.cityllava.frames import picture_path
from tests.cityllava_tree import EVENT, PUBLIC, SCENARIO, STILL, grey_level, write_tree

CAMERAS = [f"{SCENARIO}_Camera{number}_{number - 1}.mp4" for number in (1, 2, 3)]
ONE, TWO, THREE = CAMERAS
VEHICLE = f"{SCENARIO}_vehicle_view.mp4"
BORROWED = ("as_published", "corrected")


def stem(name: str) -> str:
    """A video's name without ending."""
    return name.removesuffix(".mp4")


def squares(side: float, count: int = 5) -> list[tuple]:
    """Boxes of one size."""
    return [(0, 0, side, side)] * count


def best(
    boxes: dict[str, list[tuple]], *, reference: list[str] | None = None, scenario: str = SCENARIO, borrowed: str = "corrected"
) -> str | None:
    """The best of the three cameras; boxes by file name."""
    by_stem = {stem(name): found for name, found in boxes.items()}
    return views.best_view(scenario, CAMERAS, by_stem, reference, borrowed_area=borrowed)


def clip(name: str, *, view: str = "overhead", scenario: str = SCENARIO, pedestrians: list[tuple] = (), **changes: object) -> Clip:
    """A clip of the test part with the five phases' times."""
    corpus = "bdd" if view == "ego" else "wts"
    place = f"{PUBLIC}/external/BDD_PC_5K/videos/test/public" if view == "ego" else f"{PUBLIC}/videos/test/public/{scenario}/{view}_view"
    phases = tuple(Phase(number, str(number * 0.25), str(number * 0.25 + 0.25), "", "") for number in range(5))
    boxes = tuple(PhaseBox(number, number, box) for number, box in enumerate(pedestrians))
    return replace(Clip(corpus, scenario, view, f"{place}/{name}", None, phases, boxes, (), present=True, captioned=True), **changes)


# --- the best view ---


@pytest.mark.parametrize(
    ("boxes", "reference", "chosen"),
    [
        ({ONE: squares(10), TWO: squares(30), THREE: squares(20)}, None, TWO),
        ({ONE: squares(10), TWO: squares(30), THREE: squares(20)}, [ONE, THREE], THREE),
        ({ONE: squares(10), TWO: squares(10)}, None, ONE),  # a tie keeps the earlier
        ({ONE: squares(10)}, ["other.mp4"], None),
        ({}, None, None),
        ({ONE: []}, None, None),  # published: a division by zero
        ({ONE: squares(40, 3), VEHICLE: squares(5)}, [ONE], VEHICLE),
        ({ONE: squares(40, 3), VEHICLE: squares(90), TWO: squares(10)}, [ONE, TWO], TWO),  # the vehicle's area is not kept
        ({ONE: squares(40, 3), TWO: squares(30, 4)}, None, ONE),  # incomplete, but there is no vehicle view
        ({ONE: squares(10), TWO: squares(40, 2), VEHICLE: squares(50)}, [ONE, TWO], TWO),
    ],
)
@pytest.mark.parametrize("borrowed", BORROWED)
def test_pedestrians_are_largest_in_the_best_view(boxes: dict, reference: list[str] | None, chosen: str | None, borrowed: str):
    assert best(boxes, reference=reference, borrowed=borrowed) == chosen


@pytest.mark.parametrize(("borrowed", "chosen"), [("as_published", ONE), ("corrected", VEHICLE)])
def test_the_area_of_the_vehicle_view_counts_for_the_camera_that_borrows_it_or_for_itself(borrowed: str, chosen: str):
    assert best({TWO: squares(10), VEHICLE: squares(50)}, reference=[ONE, TWO], borrowed=borrowed) == chosen


@pytest.mark.parametrize("scenario", views.VEHICLE_VIEW_ALWAYS)
def test_two_scenarios_are_seen_from_the_vehicle_whatever_their_boxes_say(scenario: str):
    assert best({ONE: squares(50)}, scenario=scenario) == f"{scenario}_vehicle_view.mp4"


@pytest.mark.parametrize(
    ("boxed", "chosen"),
    [((EVENT,), EVENT), ((EVENT, f"{EVENT}_vehicle_view"), EVENT), ((f"{EVENT}_vehicle_view",), f"{EVENT}_vehicle_view"), ((), EVENT)],
)
def test_a_normal_event_is_seen_from_above_unless_only_the_vehicle_has_boxes(boxed: tuple[str, ...], chosen: str):
    assert best({name: squares(5) for name in boxed}, scenario=EVENT) == f"{chosen}.mp4"


@given(st.lists(st.integers(1, 50), min_size=3, max_size=3))
def test_with_all_boxes_there_the_choice_is_the_largest_mean(sides: list[int]):
    assert best({name: squares(side) for name, side in zip(CAMERAS, sides, strict=True)}) == CAMERAS[sides.index(max(sides))]


# --- the views of all scenarios ---


def chosen_views(*clips: Clip, by_area: bool = True, reference: dict | None = None) -> tuple[dict[str, str], list[Finding]]:
    """The views of some clips."""
    return views.choose_views(clips, reference or {}, by_area=by_area, borrowed_area="corrected")


def test_every_scenario_has_its_view():
    clips = [
        clip(ONE, pedestrians=squares(10)),
        clip(TWO, pedestrians=squares(20)),
        clip(VEHICLE, view="vehicle"),
        clip(f"{EVENT}.mp4", scenario=EVENT),
        clip("video2.mp4", view="ego", scenario="video2"),
    ]
    everything = {SCENARIO: TWO, EVENT: f"{EVENT}.mp4", "video2": "video2.mp4"}
    assert chosen_views(*clips) == (everything, [])
    assert chosen_views(*clips, by_area=False) == (everything | {SCENARIO: ONE}, [])
    assert chosen_views(*clips, reference={SCENARIO: (ONE,)}) == (everything | {SCENARIO: ONE}, [])


def test_without_a_candidate_the_first_video_stands_in_and_is_counted():
    clips = (clip(ONE, pedestrians=squares(10)), clip(VEHICLE, view="vehicle"))
    found = chosen_views(*clips, reference={SCENARIO: ("other.mp4",)})
    assert found == ({SCENARIO: ONE}, [Finding("no best view, first video used", SCENARIO)])


def test_a_best_view_whose_video_is_missing_is_replaced_and_counted():
    clips = (clip(ONE, pedestrians=squares(10)), clip(TWO, pedestrians=squares(20), present=False))
    assert chosen_views(*clips) == ({SCENARIO: ONE}, [Finding("no best view, first video used", f"{SCENARIO} {TWO}")])


def test_a_scenario_without_a_video_is_counted_and_has_no_view():
    assert chosen_views(clip(ONE, present=False)) == ({}, [Finding("scenario without a video", SCENARIO)])


# --- test frames ---


def assemble(
    root: Path, one: Clip, *, phases: tuple[int, ...], local: tuple[int, ...] | None = None, perspective: str = "corrected"
) -> tuple:
    """Assemble one scenario of which some phases were rendered, global in grey 10 * phase + 10, local in 150 more."""
    for extent, rendered, base in (("global", phases, 10), ("local", phases if local is None else local, 160)):
        greys = {picture_path(one.path, phase, extent): {"gray": base + 10 * phase, "w": 16, "h": 16} for phase in rendered}
        write_tree(root / "rendered", greys)
    name = one.path.rpartition("/")[2]
    return views.assemble_frames({one.scenario: name}, [one], root, root / "rendered", root / "out", perspective=perspective)


def greys(root: Path, extent: str, scenario: str = SCENARIO) -> list[int]:
    """The grey levels of the five frames, rounded to ten."""
    return [round(grey_level(root / f"out/bbox_{extent}/{scenario}/{phase}.jpg") / 10) * 10 for phase in range(5)]


def test_rendered_phases_are_taken_as_they_are(tmp_path: Path):
    perspectives, findings = assemble(tmp_path, clip(ONE), phases=(0, 1, 2, 3, 4))
    assert findings == []
    assert perspectives == {f"{SCENARIO}/{phase}.jpg": "overhead" for phase in range(5)}
    assert greys(tmp_path, "global") == [10, 20, 30, 40, 50]
    assert greys(tmp_path, "local") == [160, 170, 180, 190, 200]


@pytest.mark.parametrize(("phases", "sources"), [((0, 3), (0, 0, 3, 3, 3)), ((1, 3), (1, 1, 1, 3, 3)), ((4,), (4, 4, 4, 4, 4))])
def test_missing_phases_are_the_nearest_one_the_earlier_of_two(tmp_path: Path, phases: tuple[int, ...], sources: tuple[int, ...]):
    _, findings = assemble(tmp_path, clip(ONE), phases=phases)
    assert greys(tmp_path, "global") == [10 + 10 * source for source in sources]
    assert greys(tmp_path, "local") == [160 + 10 * source for source in sources]
    assert {finding.reason for finding in findings} == {"phase without a picture, nearest one used"}
    assert len(findings) == 5 - len(phases)


def test_a_missing_local_picture_is_the_whole_frame(tmp_path: Path):
    _, findings = assemble(tmp_path, clip(ONE), phases=(0, 1, 2, 3, 4), local=(0, 1, 2, 3))
    assert greys(tmp_path, "local")[4] == greys(tmp_path, "global")[4] == 50
    assert findings == [Finding("local picture missing, whole frame used", f"{clip(ONE).path} avoidance")]


def test_a_view_without_pictures_takes_raw_frames_at_the_start_of_each_phase(tmp_path: Path):
    one = clip(VEHICLE, view="vehicle")
    write_tree(tmp_path, {one.path: STILL | {"gray0": 100}})
    perspectives, findings = assemble(tmp_path, one, phases=(), perspective="as_published")
    found = [grey_level(tmp_path / f"out/bbox_global/{SCENARIO}/{phase}.jpg") for phase in range(5)]
    assert found == pytest.approx([100, 102, 105, 107, 110], abs=1.5), "frames int(start * 10)"
    assert greys(tmp_path, "local") == greys(tmp_path, "global")
    assert set(perspectives.values()) == {"vehicle"}
    assert findings == [Finding("view without rendered pictures, raw frames used", one.path)]


def test_a_phase_that_starts_after_the_video_takes_its_last_frame_and_an_unlabelled_one_the_nearest(tmp_path: Path):
    one = clip(ONE, phases=(Phase(0, "0", "1", "", ""), Phase(2, "90", "91", "", "")))
    write_tree(tmp_path, {one.path: STILL})
    _, findings = assemble(tmp_path, one, phases=())
    assert grey_level(tmp_path / f"out/bbox_local/{SCENARIO}/2.jpg") == pytest.approx(71, abs=1.5)
    assert [finding.thing for finding in findings if finding.reason == "phase outside the video"] == [f"{one.path} judgement"]
    assert [finding.thing.split()[1] for finding in findings if "nearest" in finding.reason] == ["recognition", "action", "avoidance"]


@pytest.mark.parametrize("content", ["no video", None])
def test_a_scenario_without_any_picture_is_counted_and_the_run_goes_on(tmp_path: Path, content: str | None):
    one = clip(ONE)
    write_tree(tmp_path, {} if content is None else {one.path: content})
    perspectives, findings = assemble(tmp_path, one, phases=())
    assert perspectives == {}
    reasons = ["view without rendered pictures, raw frames used", "video unreadable", "scenario without any picture"]
    assert [finding.reason for finding in findings] == reasons


def test_a_view_without_pictures_and_without_phases_has_nothing_to_show(tmp_path: Path):
    perspectives, findings = assemble(tmp_path, clip(ONE, phases=()), phases=())
    assert (perspectives, findings) == ({}, [Finding("scenario without any picture", SCENARIO)])


@pytest.mark.parametrize(
    ("one", "published", "corrected"),
    [
        (clip(ONE), "overhead", "overhead"),
        (clip(VEHICLE, view="vehicle"), "overhead", "vehicle"),
        (clip("video2.mp4", view="ego", scenario="video2"), "vehicle", "vehicle"),
    ],
    ids=["overhead", "vehicle", "bdd"],
)
def test_the_perspective_goes_by_the_scenarios_name_or_by_the_view(tmp_path: Path, one: Clip, published: str, corrected: str):
    for quirk, expected in (("as_published", published), ("corrected", corrected)):
        perspectives, _ = assemble(tmp_path, one, phases=(0, 1, 2, 3, 4), perspective=quirk)
        assert perspectives == {f"{one.scenario}/{phase}.jpg": expected for phase in range(5)}
