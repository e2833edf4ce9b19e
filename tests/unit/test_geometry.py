"""Boxes in pixels: the published worked example, and what holds for every box."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import geometry

numbers = st.floats(-2000, 2000, allow_nan=False)
sizes = st.floats(0, 2000, allow_nan=False)
boxes = st.tuples(numbers, numbers, sizes, sizes)
scales = st.floats(0.5, 4, allow_nan=False)


def centre(box: geometry.Box) -> tuple[float, float]:
    """The middle of a box."""
    return (box[0] + box[2] / 2, box[1] + box[3] / 2)


def test_the_worked_example_of_the_published_crop():
    pedestrian = geometry.clip(geometry.to_corners(geometry.enlarge((800, 400, 60, 150), 1.2)), 1920, 1080)
    vehicle = geometry.clip(geometry.to_corners(geometry.enlarge((1000, 350, 300, 200), 1.2)), 1920, 1080)
    assert (pedestrian, vehicle) == ((794, 385, 866, 565), (970, 330, 1330, 570))
    both = geometry.union(geometry.from_corners(pedestrian), geometry.from_corners(vehicle))
    assert geometry.clip(geometry.to_corners(geometry.square(both, 1.5)), 1920, 1080) == (660, 48, 1464, 852)


def test_whole_pixels_are_cut_toward_zero_on_both_sides_of_it():
    assert geometry.truncate((-0.9, 0.9, -3.5, 3.5)) == (0, 0, -3, 3)


def test_clipping_holds_each_corner_on_its_own_side_only():
    assert geometry.clip((-5.5, 10.99, 70.5, 47.99), 64, 48) == (0, 10, 64, 47)
    assert geometry.clip((70, 50, 90, 80), 64, 48) == (70, 50, 64, 48), "outside: nothing is left between the corners"


def test_area_of_a_box_without_width_is_nothing():
    assert (geometry.area((5, 5, 10, 4)), geometry.area((5, 5, 0, 4))) == (40, 0)


@given(boxes)
def test_corners_and_sizes_say_the_same(box: geometry.Box):
    assert geometry.from_corners(geometry.to_corners(box)) == pytest.approx(box, abs=1e-9)


@given(boxes, scales)
def test_enlarging_keeps_the_centre_and_scales_the_sides(box: geometry.Box, scale: float):
    larger = geometry.enlarge(box, scale)
    assert centre(larger) == pytest.approx(centre(box), abs=1e-6)
    assert larger[2:] == (box[2] * scale, box[3] * scale)


@given(boxes, scales)
def test_the_square_has_four_equal_sides_about_the_same_centre(box: geometry.Box, scale: float):
    around = geometry.square(box, scale)
    assert around[2] == around[3] == scale * max(box[2], box[3])
    assert centre(around) == pytest.approx(centre(box), abs=1e-6)


@given(boxes, boxes)
def test_the_union_holds_both_boxes_and_touches_them_on_every_side(first: geometry.Box, second: geometry.Box):
    around = geometry.to_corners(geometry.union(first, second))
    corners = [geometry.to_corners(first), geometry.to_corners(second)]
    assert around[:2] == (min(c[0] for c in corners), min(c[1] for c in corners))
    assert around[2:] == pytest.approx((max(c[2] for c in corners), max(c[3] for c in corners)), abs=1e-6)
    assert geometry.union(first, second) == geometry.union(second, first)


@given(boxes, st.integers(1, 2000), st.integers(1, 2000))
def test_what_is_left_after_clipping_lies_inside_the_picture(box: geometry.Box, width: int, height: int):
    x1, y1, x2, y2 = geometry.clip(geometry.to_corners(box), width, height)
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= width
    assert y2 <= height
    if x1 < x2 and y1 < y2:
        assert x2 - x1 <= width
        assert y2 - y1 <= height
