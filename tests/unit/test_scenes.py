"""The traffic world: what a scene names can be seen, boxes are where things are, and the same arguments draw the same picture."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from lib import scenes
from lib.scenes import ATTRIBUTES, HEIGHT, LASTING, PASSING, WIDTH, Camera, Moment, Scene

SEEDS = st.integers(0, 2**32 - 1)
VIEWS = ("overhead", "vehicle")
SCENE = Scene(
    weather="cloudy",
    road="main road",
    age="adult",
    upper="red",
    lower="blue",
    vehicle_colour="beige",
    vehicle_type="van",
    moments=(Moment("near left", "standing", "ahead", "stopped"), Moment("far right", "running", "behind", "fast")),
)


def shown(scene: Scene, view: str, phase: int = 0) -> np.ndarray:
    """The picture of a usual camera in the middle."""
    return scenes.draw(scene, phase, Camera(view, 1.0, 0.5, 1.0), time=0.0).pixels.astype(int)


def with_value(attribute: str, value: str) -> Scene:
    if attribute in LASTING:
        return dataclasses.replace(SCENE, **{attribute: value})
    return dataclasses.replace(SCENE, moments=(dataclasses.replace(SCENE.moments[0], **{attribute: value}),))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_value_of_every_attribute_looks_different_in_both_views(attribute: str, view: str):
    pictures = [shown(with_value(attribute, value), view) for value in ATTRIBUTES[attribute]]
    for place, first in enumerate(pictures):
        for second in pictures[:place]:
            changed = np.abs(first - second).max(axis=2) > 40
            assert changed.mean() > 0.004, f"{attribute} in {view}"  # 160 pixels


@given(SEEDS, st.sampled_from(VIEWS))
def test_boxes_lie_in_the_picture_and_are_large_enough_to_train_on(seed: int, view: str):
    rng = default_rng(seed)
    picture = scenes.draw(scenes.random_scene(rng, 1), 0, scenes.random_camera(rng, view), time=float(rng.random()))
    assert picture.pixels.shape == (HEIGHT, WIDTH, 3) and picture.pixels.dtype == np.uint8
    boxes = [picture.pedestrian] + ([picture.vehicle] if view == "overhead" else [])
    for left, top, width, height in boxes:
        assert left >= 0 and top >= 0 and left + width <= WIDTH and top + height <= HEIGHT
        assert width * height > 1000


def test_the_vehicle_that_carries_the_camera_has_no_box():
    assert scenes.draw(SCENE, 0, Camera("vehicle", 1.0, 0.5, 1.0), time=0.0).vehicle is None


@pytest.mark.parametrize("view", VIEWS)
def test_the_clothes_are_inside_the_pedestrians_box(view: str):
    white = dataclasses.replace(SCENE, upper="white", lower="grey")
    changed = np.abs(shown(SCENE, view) - shown(white, view)).max(axis=2) > 20
    left, top, width, height = scenes.draw(SCENE, 0, Camera(view, 1.0, 0.5, 1.0), time=0.0).pedestrian
    rows, columns = np.nonzero(changed)
    assert left - 1 <= columns.min() and columns.max() <= left + width + 1
    assert top - 1 <= rows.min() and rows.max() <= top + height + 1


def test_the_vehicles_box_holds_its_paint():
    changed = np.abs(shown(SCENE, "overhead") - shown(dataclasses.replace(SCENE, vehicle_colour="maroon"), "overhead")).max(axis=2) > 20
    left, top, width, height = scenes.draw(SCENE, 0, Camera("overhead", 1.0, 0.5, 1.0), time=0.0).vehicle
    rows, columns = np.nonzero(changed)
    assert left - 1 <= columns.min() and columns.max() <= left + width + 1
    assert top - 1 <= rows.min() and rows.max() <= top + height + 1
    assert changed.sum() > 0.4 * width * height


@pytest.mark.parametrize(("position", "is_left", "gap"), [("near left", True, 6), ("near right", False, 6), ("far right", False, 44)])
def test_position_says_on_which_side_of_the_vehicle_and_how_far(position: str, is_left: bool, gap: int):
    picture = scenes.draw(with_value("position", position), 0, Camera("overhead", 1.0, 0.5, 1.0), time=0.0)
    (walker, _, wide, _), (vehicle, _, long, _) = picture.pedestrian, picture.vehicle
    assert (walker < vehicle) == is_left
    assert (vehicle - walker - wide if is_left else walker - vehicle - long) == pytest.approx(gap)


def test_a_smaller_zoom_shows_everything_smaller():
    usual, far = (scenes.draw(SCENE, 0, Camera("overhead", zoom, 0.5, 1.0), time=0.0) for zoom in (1.0, 0.4))
    for box in ("pedestrian", "vehicle"):
        assert np.allclose(np.array(getattr(far, box))[2:], 0.4 * np.array(getattr(usual, box))[2:])


def test_the_light_changes_every_colour():
    bright, dim = (scenes.draw(SCENE, 0, Camera("overhead", 1.0, 0.5, light), time=0.0).pixels for light in (1.0, 0.5))
    assert np.abs(bright.astype(float) / 2 - dim).max() <= 1


def test_a_clip_shows_all_phases_in_order_and_moves():
    frames = list(scenes.clip(SCENE, Camera("overhead", 1.0, 0.5, 1.0), 3))
    assert len(frames) == 6
    assert frames[3].vehicle[0] < frames[3].pedestrian[0], "the second moment"
    distances = [frame.pedestrian[0] - frame.vehicle[0] for frame in frames[3:]]
    assert distances[0] > distances[1] > distances[2], "a vehicle that drives comes nearer"
    assert np.array_equal(frames[0].pixels, frames[1].pixels), "a vehicle that has stopped does not"


def test_rain_falls():
    rainy = dataclasses.replace(SCENE, weather="rainy")
    first, second = (scenes.draw(rainy, 0, Camera("overhead", 1.0, 0.5, 1.0), time=time).pixels for time in (0.0, 0.5))
    assert not np.array_equal(first, second)


def test_the_same_arguments_give_the_same_bytes():
    first, again = (scenes.draw(scenes.random_scene(default_rng(1), 2), 1, Camera("vehicle", 1.0, 0.2, 1.0), time=0.3) for _ in range(2))
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert (first.pedestrian, first.vehicle) == (again.pedestrian, again.vehicle)


def test_values_names_every_attribute_of_a_phase():
    values = SCENE.values(1)
    assert list(values) == list(ATTRIBUTES)
    assert (values["weather"], values["movement"], values["driving"]) == ("cloudy", "running", "fast")


def test_all_values_are_about_equally_frequent_and_moments_differ():
    rng = default_rng(0)
    drawn = [scenes.random_scene(rng, 5) for _ in range(400)]
    for name, values in ATTRIBUTES.items():
        seen = [scene.values(phase)[name] for scene in drawn for phase in range(5)]
        assert all(abs(seen.count(value) / len(seen) - 1 / len(values)) < 0.06 for value in values), name
    assert sum(scene.moments[0] != scene.moments[1] for scene in drawn) > 390


def test_no_attribute_tells_another():
    rng = default_rng(1)
    drawn = [scenes.random_scene(rng, 1).values(0) for _ in range(3000)]
    for first in PASSING:
        for second in LASTING:
            both = [values[second] for values in drawn if values[first] == PASSING[first][0]]
            share = both.count(LASTING[second][0]) / len(both)
            assert abs(share - 1 / len(LASTING[second])) < 0.07, (first, second)
