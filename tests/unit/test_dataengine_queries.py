"""Queries of dataengine: what is known of a picture, how draws are made and when they end, and the prompt's parts in their order."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.dataengine.prompt_review import read_prompt
from lib.submissions.dataengine.queries import Draw, ImageFacts, Pool, build_query, draw, read_facts, render_prompt

INSTRUCTIONS = read_prompt(None).text
INSTANCES = {
    "images": [{"id": 7, "width": 200, "height": 100, "file_name": "7.jpg"}, {"id": 3, "width": 10, "height": 10, "file_name": "3.jpg"}],
    "annotations": [
        {"image_id": 7, "category_id": 2, "bbox": [10.0, 5.5, 30.0, 20.0]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 200, 100]},
        {"image_id": 7, "category_id": 2, "bbox": [10.0, 5.5, 30.0, 20.0]},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "vehicle"}],
}
CAPTIONS = {"annotations": [{"image_id": 7, "caption": text} for text in ("B.", "A.", "B.")] + [{"image_id": 99, "caption": "C."}]}


def case(type_: str, number: int) -> dict:
    choices = ["w", "x", "y", "z"]
    return {"question": f"{type_}{number}?", "choices": choices, "correct_choice_idx": 1, "image_id": number, "question_type": type_}


def cases(**counts: int) -> dict[str, list[dict]]:
    """Type -> so many bad cases."""
    return {type_: [case(type_, number) for number in range(count)] for type_, count in counts.items()}


def pool(size: int, crowded: tuple[int, ...] = (), width: int = 5) -> Pool:
    """So many pictures with features of their own; the anchor of every case is the feature of the picture with its number."""
    boxes = tuple(f"person : [{n}]" for n in range(11))
    images = [ImageFacts(number, f"{number}.jpg", ("A.",), boxes if number in crowded else ()) for number in range(size)]
    features = np.random.default_rng(0).normal(size=(size, width))
    return Pool(images, features, lambda one: features[one["image_id"]])


def test_facts_of_a_picture_are_its_different_captions_and_boxes():
    first, second = read_facts(INSTANCES, CAPTIONS)
    assert first.boxes_text == "vehicle : [0.05, 0.055, 0.2, 0.255]\nperson : [0.0, 0.0, 1.0, 1.0]\n"
    assert first.captions_text == "B.\nA.\n"
    assert second == ImageFacts(3, "3.jpg", (), ())


@pytest.mark.parametrize(("image", "category"), [(8, 1), (7, 5)])
def test_a_box_that_belongs_to_nothing_is_refused(image, category):
    broken = INSTANCES | {"annotations": [{"image_id": image, "category_id": category, "bbox": [0, 0, 1, 1]}]}
    with pytest.raises(DataError) as caught:
        read_facts(broken, CAPTIONS)
    expected = f"instances: a box of image {image} and category {category}, which the file does not list both; bring the file again"
    assert str(caught.value) == expected


@given(st.integers(0, 10_000), st.integers(0, 45), st.integers(1, 50))
def test_no_picture_is_drawn_twice_and_none_with_many_boxes(seed, count, top_k):
    drawn, found = draw(cases(a=3, b=2, c=1), {"a": 0.5, "b": 0.1, "c": 1.0}, pool(40, crowded=(1, 5)), count=count, top_k=top_k, seed=seed)
    images = [one.image.image_id for one in drawn]
    assert len(images) == len(set(images)) and not {1, 5} & set(images)
    assert len(images) == min(count, 38) == count - found["query without an image: the pool has run out"]
    assert all(one.examples[0] != one.examples[1] and {case["question_type"] for case in one.examples} == {one.type} for one in drawn)
    assert "c" not in {one.type for one in drawn}
    assert found["image with more than 10 boxes, drawn again"] <= 2


def test_types_are_drawn_in_proportion_to_their_weights():
    weights = {"a": 0.6, "b": 0.3, "c": 0.1, "d": 0.0, "e": 0.9}
    counts: Counter[str] = Counter()
    for seed in range(4):
        drawn, _ = draw(cases(a=5, b=2, c=9, d=4, e=1), weights, pool(2_000), count=500, top_k=2_000, seed=seed)
        counts += Counter(one.type for one in drawn)
    assert set(counts) == {"a", "b", "c"}
    for type_, count in counts.items():
        share = weights[type_]
        assert abs(count / 2_000 - share) < 4 * (share * (1 - share) / 2_000) ** 0.5


def test_draws_take_turns_between_neighbours_of_the_first_case_and_any_picture():
    images = pool(300)
    drawn, found = draw(cases(a=40), {"a": 1.0}, images, count=20, top_k=5, seed=3)
    assert [one.source for one in drawn] == ["neighbour", "random"] * 10
    unit = images.features / np.linalg.norm(images.features, axis=1, keepdims=True)
    for one in drawn[::2]:
        nearest = np.argsort(-(unit @ images.anchor(one.examples[0])))[:5]
        assert one.image.image_id in nearest
    assert set(found) <= {"image already used, drawn again"}


def test_draws_depend_on_the_seed_and_on_nothing_else():
    arguments = (cases(a=5, b=5), {"a": 0.5, "b": 0.5}, pool(50))
    first, again, other = (draw(*arguments, count=10, top_k=5, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_any_picture_is_drawn_when_no_neighbour_is_left_and_fewer_when_none_is():
    drawn, found = draw(cases(a=2), {"a": 1.0}, pool(9), count=12, top_k=1, seed=0)
    assert len(drawn) == 9
    assert sum(one.source == "neighbour" for one in drawn) <= 2
    assert found["no neighbour left, any image instead"] == 5 - sum(one.source == "neighbour" for one in drawn)
    assert found["query without an image: the pool has run out"] == 3


@pytest.mark.parametrize(
    ("counts", "weights", "listed"),
    [
        ({"a": 1, "b": 3}, {"a": 1.0, "b": 0.0}, "a 1 at weight 1.0, b 3 at weight 0.0"),
        ({"a": 2}, {}, "a 2 at weight 0"),
        ({}, {"a": 1.0}, "none"),
    ],
)
def test_a_draw_without_a_type_is_an_error_instead_of_an_endless_loop(counts, weights, listed):
    with pytest.raises(DataError) as caught:
        draw(cases(**counts), weights, pool(5), count=1, top_k=1, seed=0)
    assert str(caught.value) == (
        f"no question type has 2 bad cases and a weight above 0 (bad cases: {listed}); evaluate on more questions, or smooth the weights"
    )


def broken_pool(**changes: object) -> Pool:
    whole = pool(5)
    return Pool(**({"images": whole.images, "features": whole.features, "anchor": whole.anchor} | changes))


@pytest.mark.parametrize(
    ("given_pool", "top_k", "message"),
    [
        (broken_pool(features=np.ones((4, 3))), 1, "features of shape (4, 3) for 5 images; one row per image is needed, in the same order"),
        (broken_pool(features=np.ones(5)), 1, "features of shape (5,) for 5 images; one row per image is needed, in the same order"),
        (broken_pool(features=np.zeros((5, 3))), 1, "the feature of an image of the pool is zero or not finite; compute the features again"),
        (broken_pool(anchor=lambda one: np.ones(2)), 1, "a feature of 2 values for 'a0?', but 5 for the pool; use one model"),
        (broken_pool(anchor=lambda one: np.full(5, np.nan)), 1, "the feature of 'a0?' is zero or not finite; compute the features again"),
        (broken_pool(), 0, "the 0 nearest images: at least 1 is needed"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_are_refused(given_pool, top_k, message):
    with pytest.raises(DataError) as caught:
        draw({"a": [case("a", 0)] * 2}, {"a": 1.0}, given_pool, count=1, top_k=top_k, seed=0)
    assert str(caught.value) == message


def example_draw(type_: str = "attribute_recognition") -> Draw:
    return Draw(type_, (case(type_, 0), case(type_, 1)), read_facts(INSTANCES, CAPTIONS)[0], "random")


def test_a_query_is_the_published_record():
    query = build_query(example_draw(), INSTRUCTIONS)
    assert query == {"image_id": 7, "prompt": render_prompt(example_draw(), INSTRUCTIONS), "question_type": "attribute_recognition"}


def test_the_prompt_has_all_parts_in_their_order():
    prompt = render_prompt(example_draw(), INSTRUCTIONS)
    parts = [
        *("You are an assistant that looks at pictures", "Goal:", "[x1, y1, x2, y2]", "Rules", *(f"\n{number}. " for number in range(1, 13))),
        *("An example.", "\nQuestion: ", "\nChoices: (A) ", "\nAnswer: The answer is (B): ", "\nExplanations: "),
        *("<captions>\nB.\nA.\n</captions>", "<boxes>\nvehicle : [0.05, 0.055, 0.2, 0.255]\nperson : [0.0, 0.0, 1.0, 1.0]\n</boxes>"),
        *("<type>attribute recognition</type>. How something looks", "attribute_recognition0?", "attribute_recognition1?", "\nWrite one"),
    ]  # fmt: skip
    position = 0
    for part in parts:
        position = prompt.index(part, position) + len(part)


def test_facts_may_hold_braces_and_a_picture_may_have_no_boxes():
    drawn = Draw("ocr", example_draw("ocr").examples, ImageFacts(1, "1.jpg", ("A {sign}.",), ()), "random")
    assert "<captions>\nA {sign}.\n</captions>\nObjects:\n<boxes>\n</boxes>" in render_prompt(drawn, "Instructions.\n")


def test_a_type_without_a_definition_has_no_prompt():
    with pytest.raises(ConfigError, match=re.escape("no question type 'gossip'; there are: Scene Understanding,")):
        render_prompt(example_draw("gossip"), INSTRUCTIONS)
