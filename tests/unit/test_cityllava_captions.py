"""The toy captions: as long as planned, varied, and every value they name can be read back."""

import dataclasses
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from lib import scenes
from lib.scenes import ATTRIBUTES, Moment, Scene
from lib.submissions.cityllava import captions
from lib.submissions.cityllava.captions import CHANCE, NAMED, clauses, pedestrian_caption, vehicle_caption

SEEDS = st.integers(0, 2**32 - 1)
WRITE = {"pedestrian": pedestrian_caption, "vehicle": vehicle_caption}
VALUES = Scene(
    "rainy", "parking lot", "child", "yellow", "blue", "green", "bus", (Moment("far left", "running", "traffic", "turning"),)
).values(0)


class Always:
    """A generator that always draws the same share."""

    def __init__(self, share: float) -> None:
        self.share = share

    def random(self) -> float:
        return self.share

    def integers(self, low: int, high: int) -> int:
        return low


def test_the_usual_wording_about_a_pedestrian():
    assert pedestrian_caption(VALUES, Always(0.5)) == (
        "The pedestrian is running fast with long hurried strides. The pedestrian is a small child in a yellow school cap. "
        "A yellow raincoat is worn together with blue jeans. Seen from the vehicle, the pedestrian is many meters away towards the left "
        "edge. The eyes are fixed on the approaching vehicle. Around them rain is pouring and everything is wet. All this happens inside "
        "a parking lot with slanted bays."
    )


def test_the_rarer_wording_about_a_vehicle():
    assert vehicle_caption(VALUES, Always(0.99)) == (
        "The vehicle concerned is a long green bus full of passengers. From its seat the pedestrian is at a great distance on the left. "
        "Right now the vehicle steers into a turning curve at 15 km/h. Before it there is a little child below ten years in a yellow "
        "raincoat and blue jeans. As for the weather, it is raining heavily from a dark sky. The scene takes place among the marked "
        "spaces of a parking lot."
    )


def test_surroundings_may_come_first_and_what_is_urgent_before_the_rest():
    assert vehicle_caption(VALUES, Always(0.1)).startswith("Around them rain is pouring and everything is wet. All this happens inside")
    fast = VALUES | {"driving": "fast"}
    assert vehicle_caption(fast, Always(0.5)).startswith("The vehicle is speeding along rapidly at more than 50 km/h. The vehicle is a")


@given(SEEDS, st.sampled_from(tuple(WRITE)))
def test_every_value_named_is_read_back_and_nothing_else(seed: int, kind: str):
    rng = default_rng(seed)
    values = scenes.random_scene(rng, 1).values(0)
    found = clauses(WRITE[kind](values, rng))
    assert found == {name: values[name] if name in NAMED[kind] else None for name in ATTRIBUTES}


@given(SEEDS, st.sampled_from(tuple(WRITE)))
def test_captions_have_six_or_seven_sentences_and_about_seventy_words(seed: int, kind: str):
    rng = default_rng(seed)
    caption = WRITE[kind](scenes.random_scene(rng, 1).values(0), rng)
    # Sentences end with ". ", as the published scripts split them; no abbreviation or number may look like an end.
    assert len(re.findall(r"[a-z/0-9]\.( |$)", caption)) == len(caption.split(". ")) == (7 if kind == "pedestrian" else 6)
    assert 58 <= len(caption.split()) <= 90
    assert "  " not in caption and "{" not in caption and caption.isascii()


@pytest.mark.parametrize("kind", WRITE)
def test_one_scene_is_worded_in_many_ways(kind: str):
    assert len({WRITE[kind](VALUES, default_rng(seed)) for seed in range(60)}) > 40


@pytest.mark.parametrize("kind", WRITE)
def test_all_wordings_and_frames_occur(kind: str):
    rng = default_rng(0)
    text = " ".join(WRITE[kind](scenes.random_scene(rng, 1).values(0), rng) for _ in range(800))
    for attribute in set(NAMED[kind]) - {"vehicle_colour", "vehicle_type"}:
        for wordings in captions._WORDINGS[attribute].values():
            assert all(wording in text for wording in wordings)


@pytest.mark.parametrize("kind", WRITE)
def test_captions_of_different_scenes_share_less_than_half_of_their_words_in_pairs(kind: str):
    rng = default_rng(3)

    def pairs(caption: str) -> set[tuple[str, str]]:
        words = caption.split()
        return set(itertools.pairwise(words))

    written = [pairs(WRITE[kind](scenes.random_scene(rng, 1).values(0), rng)) for _ in range(60)]
    shared = [len(first & second) / len(second) for first, second in itertools.pairwise(written)]
    assert sum(shared) / len(shared) < 0.45


def test_no_wording_contains_one_of_another_value():
    for attribute, values in ATTRIBUTES.items():
        phrases = [(value, phrase) for value in values for phrase in captions._phrases(attribute, value)]
        assert not [(a, b) for (v, a) in phrases for (w, b) in phrases if v != w and a in b], attribute


def test_a_caption_that_names_two_values_or_none_names_none():
    assert clauses("")["upper"] is None
    assert clauses("A red jacket is worn.")["upper"] == "red"
    assert clauses("A RED JACKET is worn.")["upper"] == "red"
    assert clauses("A red jacket and a white shirt.")["upper"] is None
    assert clauses("A red jacket and a red jacket.")["upper"] == "red"


def test_colour_and_type_of_the_vehicle_are_read_from_one_phrase():
    found = clauses("The vehicle is a heavy maroon truck loaded with cargo.")
    assert (found["vehicle_colour"], found["vehicle_type"], found["lower"]) == ("maroon", "truck", None)


def test_chance_is_one_of_the_values():
    assert CHANCE["upper"] == 0.2 and CHANCE["weather"] == 0.25
    assert set(CHANCE) == set(ATTRIBUTES) and max(CHANCE.values()) <= 0.25, "twice chance must be possible, and mean something"


def test_both_kinds_together_name_every_attribute():
    assert set(NAMED["pedestrian"]) | set(NAMED["vehicle"]) == set(ATTRIBUTES)
    assert {field.name for field in dataclasses.fields(Moment)} < set(ATTRIBUTES)
