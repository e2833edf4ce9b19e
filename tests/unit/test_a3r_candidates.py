"""Missing attributes, candidate captions and the zero-shot choice of a3r."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.a3r.candidates import (
    CONVENTIONS,
    Attributes,
    build_candidates,
    build_choices,
    caption_prefix,
    choose,
    find_article,
    known_attributes,
    output_line,
)
from lib.submissions.a3r.labels import Label
from lib.submissions.a3r.vocabulary import Vocabulary

SMALL = Vocabulary(
    colors=("black", "light blue", "orange"),
    types=("Bus", "SUV", "Truck"),
    brands=("Audi", "Balong Heavy Truck", "Golden Dragon", "Kia"),
)
ARTICLES = st.sampled_from(["A ", "An ", "This is a ", "This is an ", ""])
PART = {kind: st.one_of(st.just(""), st.sampled_from(getattr(SMALL, kind))) for kind in ("colors", "brands", "types")}
CAPTIONS = st.builds(
    lambda article, color, brand, kind: article + " ".join(part for part in (color, brand, kind) if part) + ".",
    ARTICLES,
    PART["colors"],
    PART["brands"],
    PART["types"],
)


@pytest.mark.parametrize(
    ("caption", "convention", "known"),
    [
        ("This is a black Audi.", "shipped", (("black",), ("Audi",), ())),
        ("A light blue Kia.", "readme", (("light blue",), ("Kia",), ())),
        ("A light blue Kia.", "asis", ((), ("Kia",), ())),  # single words only: the published vocabulary has no two-word colour
        ("A Golden Dragon Bus.", "readme", ((), ("Golden Dragon",), ("Bus",))),
        ("A Balong Heavy Truck.", "readme", ((), ("Balong Heavy Truck",), ())),
        ("A Balong Heavy Truck.", "shipped", ((), ("Balong Heavy Truck",), ("Truck",))),
        ("A Balong Heavy Truck SUV.", "shipped", ((), ("Balong Heavy Truck",), ("SUV",))),
        ("A Balong Heavy Truck.", "asis", ((), ("Balong Heavy Truck", "Balong Heavy Truck"), ("Truck",))),
        ("A black black Audi.", "shipped", (("black",), ("Audi",), ())),
        ("Kia an Audi.", "shipped", ((), ("Audi",), ())),  # what stands before the article does not count
        ("A car.", "shipped", ((), (), ())),
        ("", "readme", ((), (), ())),
    ],
)
def test_a_caption_names_these_attributes(caption, convention, known):
    assert known_attributes(caption, SMALL, convention=convention) == Attributes(*known)


def test_a_word_that_is_brand_and_type_counts_as_both():
    both = Vocabulary(("red",), ("Ford", "Bus"), ("Ford", "Kia"))
    for convention in CONVENTIONS:
        assert known_attributes("A red Ford.", both, convention=convention) == Attributes(("red",), ("Ford",), ("Ford",))


def test_the_longest_phrase_is_read_at_each_place():
    nested = Vocabulary(("red", "red brown"), ("Bus",), ("Land", "Land Rover"))
    known = known_attributes("A red brown Land Rover.", nested, convention="readme")
    assert known == Attributes(("red brown",), ("Land Rover",), ())


def test_candidates_run_through_colour_then_brand_then_type():
    assert build_candidates("A car.", Vocabulary(("red", "blue"), ("Bus", "SUV"), ("Kia", "Audi")), convention="shipped") == [
        "red Kia Bus",
        "red Kia SUV",
        "red Audi Bus",
        "red Audi SUV",
        "blue Kia Bus",
        "blue Kia SUV",
        "blue Audi Bus",
        "blue Audi SUV",
    ]


@pytest.mark.parametrize(
    ("caption", "shipped", "readme", "asis"),
    [
        ("A black Audi.", 3, 3, 3),
        ("A Bus.", 12, 3, 0),
        ("A Kia.", 9, 9, 9),
        ("A black car.", 12, 3, 12),
        ("A Kia Bus.", 3, 3, 3),
        ("A black Bus.", 4, 1, 4),
        ("A black Kia Bus.", 1, 1, 1),
        ("A car.", 36, 9, 0),
        ("A black Balong Heavy Truck.", 1, 3, 2),
    ],
)
def test_each_convention_offers_its_number_of_candidates(caption, shipped, readme, asis):
    numbers = {convention: len(build_candidates(caption, SMALL, convention=convention)) for convention in CONVENTIONS}
    assert numbers == {"shipped": shipped, "readme": readme, "asis": asis}


@given(CAPTIONS, st.sampled_from(["shipped", "readme"]))
def test_no_choice_changes_what_the_caption_names_and_there_is_always_one(caption, convention):
    choices = build_choices(caption, SMALL, convention=convention)
    known = known_attributes(caption, SMALL, convention="readme")
    assert choices
    for text in choices:
        after = known_attributes(text, SMALL, convention="readme")
        for kind in ("colors", "brands", "types"):
            assert getattr(known, kind) in ((), getattr(after, kind)), text


@given(CAPTIONS)
def test_shipped_and_readme_candidates_are_distinct_and_keep_or_drop_the_article(caption):
    shipped = build_candidates(caption, SMALL, convention="shipped")
    readme = build_candidates(caption, SMALL, convention="readme")
    assert len(set(shipped)) == len(shipped)
    assert len(set(readme)) == len(readme)
    prefix = caption_prefix(caption, convention="readme")
    assert all(text.startswith(prefix) for text in readme)
    assert find_article(shipped[0].split()) == -1


@given(CAPTIONS)
def test_the_readme_never_invents_a_brand(caption):
    known = known_attributes(caption, SMALL, convention="readme")
    for text in build_candidates(caption, SMALL, convention="readme"):
        assert known_attributes(text, SMALL, convention="readme").brands == known.brands


def test_a_complete_caption_stays_as_it_is_by_the_readme():
    assert build_candidates("A shiny black Kia Bus.", SMALL, convention="readme") == ["A shiny black Kia Bus"]
    assert build_candidates("A shiny black Kia Bus.", SMALL, convention="shipped") == ["black Kia Bus"]


@pytest.mark.parametrize(
    ("caption", "readme", "asis"),
    [
        ("This is an orange Audi.", "This is an ", "This is a "),
        ("An orange Audi.", "An ", "A "),
        ("A Kia.", "A ", "A "),
        ("Audi Bus", "", "A "),
        ("orange Audi", "", ""),
    ],
)
def test_the_prefix_is_the_captions_own_or_the_guessed_one(caption, readme, asis):
    prefixes = [caption_prefix(caption, convention=convention) for convention in ("readme", "asis", "shipped")]
    assert prefixes == [readme, asis, ""]


def test_the_published_code_offers_a_truck_for_every_balong_heavy_truck():
    choices = build_choices("A red Balong Heavy Truck Bus.", SMALL, convention="asis")
    assert {text.split()[-1] for text in choices} == {"Truck", "Bus"}
    assert {text.split()[-1] for text in build_choices("A red Balong Heavy Truck Bus.", SMALL, convention="shipped")} == {"Bus"}


@given(CAPTIONS)
def test_where_the_published_code_had_candidates_they_are_offered(caption):
    built = build_candidates(caption, SMALL, convention="asis")
    choices = build_choices(caption, SMALL, convention="asis")
    assert choices == (built or build_candidates(caption, SMALL, convention="readme"))
    assert choices


def test_where_the_published_code_crashed_the_readmes_candidates_are_offered():
    assert build_candidates("An SUV.", SMALL, convention="asis") == []
    assert build_choices("An SUV.", SMALL, convention="asis") == ["An black SUV", "An light blue SUV", "An orange SUV"]


def test_an_empty_vocabulary_offers_no_completion():
    for convention in ("shipped", "asis", "readme"):
        with pytest.raises(DataError) as caught:
            build_choices("A car.", Vocabulary((), (), ()), convention=convention)
        assert str(caught.value) == "caption 'A car.' has no completion; the vocabulary needs at least one colour, brand and type"


def test_an_unknown_convention_is_refused():
    calls = [
        lambda: build_candidates("A car.", SMALL, convention="paper"),
        lambda: caption_prefix("A car.", convention="paper"),
        lambda: output_line(Label("a.jpg", "Bus.", "A Bus."), "x", convention="paper"),
    ]
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        assert str(caught.value) == "no augmentation convention 'paper'; it is one of: shipped, readme, asis"


def test_the_choice_is_the_softmax_of_raw_cosines():
    index, probabilities = choose(np.array([2.0, 0.0]), np.array([[0.0, 3.0], [5.0, 0.0], [-1.0, 0.0]]))
    weights = np.exp([0.0, 1.0, -1.0])
    assert index == 1
    np.testing.assert_allclose(probabilities, weights / weights.sum(), rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 24))
def test_equal_candidates_tie_and_the_first_wins(seed, copies, width):
    generator = np.random.default_rng(seed)
    image, best = generator.normal(size=width), generator.normal(size=width)
    index, probabilities = choose(image.astype(np.float32), np.tile(best.astype(np.float32), (copies, 1)))
    assert index == 0
    np.testing.assert_allclose(probabilities, 1 / copies)
    assert len(set(probabilities)) == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.01, 100))
def test_the_length_of_features_does_not_matter(seed, number, factor):
    generator = np.random.default_rng(seed)
    image, texts = generator.normal(size=8), generator.normal(size=(number, 8))
    index, probabilities = choose(image, texts)
    other, scaled = choose(image * factor, texts * factor)
    assert index == other == int(np.argmax(texts @ image / np.linalg.norm(texts, axis=1)))
    np.testing.assert_allclose(probabilities, scaled)
    assert probabilities.sum() == pytest.approx(1)


def test_features_that_cannot_be_compared_are_refused():
    message = "features of shapes {} and {}; expected (D,) and (N, D) with N > 0"
    for image, texts in ((np.ones(2), np.ones((3, 4))), (np.ones(2), np.ones((0, 2))), (np.ones((1, 2)), np.ones((3, 2)))):
        with pytest.raises(DataError) as caught:
            choose(image, texts)
        assert str(caught.value) == message.format(image.shape, texts.shape)
    for texts, position, length in (([[1.0, 0.0], [0.0, 0.0]], 1, "0.0"), ([[np.nan, 0.0], [1.0, 0.0]], 0, "nan")):
        with pytest.raises(DataError) as caught:
            choose(np.ones(2), np.array(texts))
        assert str(caught.value) == f"feature {position} has the length {length}; expected a finite one above 0, check the model"


def test_output_lines_carry_the_dots_of_their_convention():
    label = Label("a.jpeg", "black Audi.", "This is a black Audi.")
    assert output_line(label, "black Audi SUV", convention="shipped") == "a.jpeg$black Audi$This is a black Audi$black Audi SUV"
    for convention in ("readme", "asis"):
        line = output_line(label, "This is a black Audi SUV", convention=convention)
        assert line == "a.jpeg$black Audi$This is a black Audi.$This is a black Audi SUV."
    odd = Label("a.jpg", "No.7 Kia.", "A No.7 Kia.")
    assert output_line(odd, "x", convention="asis") == "a.jpg$No7 Kia$A No7 Kia.$x."
    assert output_line(odd, "x", convention="readme") == "a.jpg$No.7 Kia$A No.7 Kia.$x."
