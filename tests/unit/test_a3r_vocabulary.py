"""Vocabulary, query routing and gallery routing of a3r."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.submissions.a3r.augmented import read_augmented
from lib.submissions.a3r.vocabulary import (
    Query,
    Vocabulary,
    count_unread,
    derive_vocabulary,
    image_kind,
    is_vehicle_query,
    read_queries,
    read_vocabulary,
    route_gallery,
    route_queries,
    write_queries,
    write_vocabulary,
)

SMALL = Vocabulary(colors=("black", "white"), types=("Bus", "SUV"), brands=("Audi", "China-Moto", "Golden Dragon", "Mini"))
real_data = pytest.mark.skipif("PODIUM_REAL_DATA" not in os.environ, reason="PODIUM_REAL_DATA does not name the published files")
WORD = st.builds(str.__add__, st.sampled_from("AZM"), st.text("azM-", min_size=1, max_size=4))
COLOR = st.builds(" ".join, st.lists(st.text("az", min_size=1, max_size=4), min_size=1, max_size=2))


def real_file(name: str) -> Path:
    """A published file of a3r."""
    return Path(os.environ["PODIUM_REAL_DATA"]) / "a3r" / name


def message_of(call, path: Path) -> str:
    """The message of the DataError that `call` raises, without the folder."""
    with pytest.raises(DataError) as caught:
        call(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("phrase", "vocabulary"),
    [
        ("white Audi", (["white"], [], ["Audi"])),
        ("light blue BYD", (["light blue"], [], ["BYD"])),
        ("pink Golden Dragon", (["pink"], [], ["Golden Dragon"])),
        ("orange MORRIS-GARAGE", (["orange"], [], ["MORRIS-GARAGE"])),
        ("Minivan", ([], ["Minivan"], [])),
        ("Hongyan", ([], [], ["Hongyan"])),
        ("Balong Heavy Truck", ([], [], ["Balong Heavy Truck"])),
        ("A white Audi", ([], ["Audi"], [])),  # the task page's form: the brand lands among the types
        ("white A", ([], [], [])),
        ("white", ([], [], [])),
        ("", ([], [], [])),
    ],
)
def test_one_phrase_adds_what_the_two_readings_find(phrase, vocabulary):
    derived = derive_vocabulary([phrase])
    assert (list(derived.colors), list(derived.types), list(derived.brands)) == vocabulary
    assert count_unread([phrase, phrase]) == ({phrase: 2} if not any(vocabulary) else {})


@given(st.lists(st.tuples(COLOR, WORD)), st.lists(st.tuples(WORD, WORD)), st.lists(WORD.filter(lambda word: word != "Hongyan")))
def test_the_vocabulary_is_sorted_and_complete_whatever_the_order(pairs, double_brands, types):
    phrases = [" ".join(pair) for pair in pairs] + [" ".join(pair) for pair in double_brands] + types
    derived = derive_vocabulary(phrases)
    assert derived == derive_vocabulary(reversed(phrases))
    assert derived.colors == tuple(sorted({color for color, _ in pairs}))
    assert derived.types == tuple(sorted(set(types)))
    assert derived.brands == tuple(sorted({brand for _, brand in pairs} | {" ".join(pair) for pair in double_brands}))


def test_the_vocabulary_file_is_one_line_in_the_published_order(tmp_path):
    path = tmp_path / "car_attribute.json"
    write_vocabulary(path, SMALL)
    assert path.read_text() == (
        '{"Colors": ["black", "white"], "Types": ["Bus", "SUV"], "Brands": ["Audi", "China-Moto", "Golden Dragon", "Mini"]}'
    )
    assert read_vocabulary(path) == SMALL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "found list; a vocabulary has exactly the keys Colors, Types, Brands"),
        ("{}", "found no key; a vocabulary has exactly the keys Colors, Types, Brands"),
        ('{"Colors": [], "Types": []}', "found Colors, Types; a vocabulary has exactly the keys Colors, Types, Brands"),
        ('{"Colors": "red", "Types": [], "Brands": []}', "Colors is 'red'; expected a list of words"),
        ('{"Colors": [], "Types": [1], "Brands": []}', "Types[0] is 1; expected a word"),
        ('{"Colors": [], "Types": [], "Brands": ["Kia", " "]}', "Brands[1] is ' '; expected a word"),
        ('{"Colors": ["red", "red"], "Types": [], "Brands": []}', "Colors[1] repeats 'red'; keep each word once"),
    ],
)
def test_a_malformed_vocabulary_file_is_refused(tmp_path, text, message):
    path = tmp_path / "car_attribute.json"
    path.write_text(text)
    assert message_of(read_vocabulary, path) == f"car_attribute.json: {message}"


@pytest.mark.parametrize(
    ("line", "substring", "whole"),
    [
        ("A white Audi SUV.", True, True),
        ("A Golden Dragon.", True, True),
        ("A China-Moto.", True, True),
        ("A white car.", False, False),
        ("An audi.", False, False),
        ("A woman in a Minicooper shirt.", True, False),
        ("A woman in a Mini-skirt.", True, False),
        ("A woman in a Mini skirt.", True, True),
        ("", False, False),
    ],
)
def test_a_type_or_brand_makes_a_vehicle_query(line, substring, whole):
    assert is_vehicle_query(line, SMALL, whole_words=False) is substring
    assert is_vehicle_query(line, SMALL, whole_words=True) is whole


def test_an_empty_vocabulary_makes_every_query_a_pedestrians():
    nothing = Vocabulary(("red",), (), ())
    assert not is_vehicle_query("A red Audi.", nothing, whole_words=False)
    assert not is_vehicle_query("A red Audi.", nothing, whole_words=True)


def test_routed_queries_keep_their_index_and_order():
    lines = ["A man.", " A Bus. ", "A woman.", "An Audi."]
    vehicles, pedestrians = route_queries(lines, SMALL, whole_words=False)
    assert vehicles == [Query(1, "A Bus."), Query(3, "An Audi.")]
    assert pedestrians == [Query(0, "A man."), Query(2, "A woman.")]


@given(st.lists(st.sampled_from(["A Bus.", "A man.", "A Minicooper.", "x", ""])), st.booleans())
def test_routing_loses_and_repeats_no_query(lines, whole_words):
    vehicles, pedestrians = route_queries(lines, SMALL, whole_words=whole_words)
    assert sorted(vehicles + pedestrians, key=lambda query: query.index) == [Query(*pair) for pair in enumerate(lines)]


def test_query_files_are_read_and_written_without_a_final_line_end(tmp_path):
    path = tmp_path / "test_text.txt"
    path.write_bytes("\ufeffA Bus.\r\n A man. \n\n".encode())
    lines = read_queries(path)
    assert lines == ["A Bus.", "A man."]
    write_queries(path, [Query(index, line) for index, line in enumerate(lines)])
    assert path.read_bytes() == b"A Bus.\nA man."
    write_queries(path, [])
    assert path.read_bytes() == b""


def test_blank_queries_and_empty_query_files_are_refused(tmp_path):
    path = tmp_path / "test_text.txt"
    path.write_text("A Bus.\n\nA man.\n")
    assert message_of(read_queries, path) == ("test_text.txt:2: blank line between queries; every line is one query, remove it or fill it")
    path.write_text("\n")
    assert message_of(read_queries, path) == "test_text.txt: no query in this file; expected one sentence per line"


def test_a_gallery_name_tells_the_class():
    names = ["094413.jpg", "vehicle_0001886.jpg", "urswhrumhe.jpg", "000055.png"]
    assert route_gallery(names) == (["vehicle_0001886.jpg", "urswhrumhe.jpg"], ["094413.jpg", "000055.png"])


@pytest.mark.parametrize("name", ["IMG-1.jpg", ".DS_Store", "vehicle_.jpg", "0001a.jpg", "000001"])
def test_a_gallery_name_that_tells_no_class_is_refused(name):
    with pytest.raises(DataError) as caught:
        image_kind(name)
    assert str(caught.value) == (
        f"image name {name!r} tells no class; expected 000001.jpg (pedestrian), abcdefghij.jpg or vehicle_0000001.jpg (vehicle); "
        "rename it or rank against the whole gallery"
    )


@real_data
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_published_vocabulary_is_derived_from_the_published_phrases(tmp_path, split):
    phrases = [row.attribute for row in read_augmented(real_file(f"augmented_ViT-bigG-14_{split}_label.txt")).rows]
    derived = derive_vocabulary(phrases)
    assert derived == read_vocabulary(real_file("car_attribute.json"))
    assert (len(derived.colors), len(derived.types), len(derived.brands)) == (11, 6, 65)
    assert count_unread(phrases) == {}
    write_vocabulary(tmp_path / "car_attribute.json", derived)
    assert (tmp_path / "car_attribute.json").read_bytes() == real_file("car_attribute.json").read_bytes()


@real_data
@pytest.mark.parametrize("whole_words", [False, True])
def test_no_published_vehicle_caption_is_missed_by_the_routing(whole_words):
    captions = [row.caption for row in read_augmented(real_file("augmented_ViT-bigG-14_train_label.txt")).rows]
    vehicles, missed = route_queries(captions, read_vocabulary(real_file("car_attribute.json")), whole_words=whole_words)
    assert (len(vehicles), len(missed)) == (42_704, 0)


@real_data
def test_published_vehicle_images_are_routed_to_the_vehicles():
    names = [row.name for row in read_augmented(real_file("augmented_ViT-bigG-14_train_label.txt")).rows]
    assert route_gallery(names) == (names, [])
