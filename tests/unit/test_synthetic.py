"""The toy world: what a record names can be seen, nothing else is fixed, and the same seed draws the same picture."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from PIL import Image

from lib import synthetic
from lib.synthetic import COLOURS, TYPES, Pedestrian, Vehicle, draw_pedestrian, draw_vehicle, plate_of, random_pedestrian, random_vehicle

CAR = Vehicle("red", "Ford", "Sedan")
WALKER = Pedestrian(gender="male", age="adult", pose="front", sleeve="long")
SEEDS = st.integers(0, 2**32 - 1)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_the_same_seed_draws_the_same_picture_and_another_one_another():
    first, again, other = (draw_vehicle(CAR, default_rng(seed)).tobytes() for seed in (1, 1, 2))
    assert first == again != other
    first, again, other = (draw_pedestrian(WALKER, default_rng(seed)).tobytes() for seed in (1, 1, 2))
    assert first == again != other


@given(SEEDS)
def test_vehicles_are_wide_and_pedestrians_tall(seed: int):
    rng = default_rng(seed)
    width, height = draw_vehicle(random_vehicle(rng, ("Ford", "Kia")), rng).size
    assert 1.2 <= width / height <= 1.85
    width, height = draw_pedestrian(random_pedestrian(rng), rng).size
    assert 1.65 <= height / width <= 2.35


def test_pictures_of_one_kind_differ_in_size():
    sizes = {draw_vehicle(CAR, default_rng(seed)).size for seed in range(20)}
    assert len(sizes) > 15


def share_of_colour(picture: Image.Image, colour: str) -> float:
    """The share of pixels that are this colour under some light."""
    ink = np.array(COLOURS[colour])
    near = [np.abs(pixels(picture) - np.clip(ink * light, 0, 255)).max(axis=2) < 14 for light in np.arange(0.84, 1.1, 0.02)]
    return float(np.any(near, axis=0).mean())


@pytest.mark.parametrize("colour", COLOURS)
def test_the_colour_of_a_vehicle_covers_much_of_the_picture_and_of_no_other_vehicle(colour: str):
    own = np.mean([share_of_colour(draw_vehicle(Vehicle(colour, "", "SUV"), default_rng(seed)), colour) for seed in range(8)])
    others = [
        np.mean([share_of_colour(draw_vehicle(Vehicle(other, "", "SUV"), default_rng(seed)), colour) for seed in range(8)])
        for other in COLOURS
        if other != colour
    ]
    assert own > 0.15
    assert own > max(others) + 0.08


def test_every_type_has_a_shape_of_its_own():
    drawn = {type_: pixels(draw_vehicle(Vehicle("blue", "Ford", type_), default_rng(4))) for type_ in TYPES}
    for one in TYPES:
        for other in TYPES:
            if one < other:
                changed = (np.abs(drawn[one] - drawn[other]).max(axis=2) > 40).mean()
                assert changed > 0.1, (one, other)


@given(st.text(max_size=12))
def test_a_plate_is_made_from_the_name_alone_and_its_halves_differ(brand: str):
    left, right = plate_of(brand)
    assert (left, right) == plate_of(brand)
    assert left != right


def test_two_brands_differ_in_their_plates_only_and_no_brand_has_none():
    ford, kia, bare = (pixels(draw_vehicle(Vehicle("grey", brand, "Bus"), default_rng(7))) for brand in ("Ford", "Kia", ""))
    changed = np.abs(ford - kia).max(axis=2) > 0
    assert 0.02 < changed.mean() < 0.25
    assert (np.abs(ford - bare).max(axis=2) > 0).mean() > changed.mean()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("gender", "female"),
        ("age", "child"),
        ("age", "elder"),
        ("pose", "back"),
        ("pose", "side"),
        ("sleeve", "short"),
        *(("pattern", pattern) for pattern in synthetic.PATTERNS[1:]),
        *(("bag", bag) for bag in synthetic.BAGS[1:]),
        ("skirt", True),
        *(("wears", (item,)) for item in synthetic.WEARABLES),
    ],
)
def test_every_attribute_of_a_pedestrian_can_be_seen(attribute: str, value: object):
    changed = dataclasses.replace(WALKER, **{attribute: value})
    before, after = (pixels(draw_pedestrian(walker, default_rng(3))) for walker in (WALKER, changed))
    assert (np.abs(before - after).max(axis=2) > 40).mean() > 0.008


@given(SEEDS)
def test_pedestrians_fit_the_grammar_of_the_captions(seed: int):
    walker = random_pedestrian(default_rng(seed))
    assert not (walker.wears and walker.pattern), "one caption names either the shirt or what is worn"
    assert not (walker.wears and walker.skirt)
    assert not (walker.skirt and walker.gender == "male")


def middle(picture: Image.Image) -> bytes:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side)).tobytes()


def test_a_square_crop_from_the_middle_loses_what_padding_keeps():
    hat = dataclasses.replace(WALKER, wears=("hat",))
    with_hat, without = (draw_pedestrian(walker, default_rng(3)) for walker in (hat, WALKER))
    assert with_hat.tobytes() != without.tobytes()
    assert middle(with_hat) == middle(without)
