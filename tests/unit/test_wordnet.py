"""Finding WordNet 3.0 offline and looking up synonyms, on a WordNet of a few words and, where the machine has it, the real one."""

import logging
import zipfile
from pathlib import Path

import pytest

from lib import wordnet
from lib.errors import ConfigError
from lib.wordnet import WordNet
from tests.nltk_wordnet import open_with_nltk

LICENCE = "  1 This software and database is being provided to you  \n  2 WordNet 3.0 Copyright 2006 by Princeton University.  \n"

# Senses by part of speech: the letter of the part and the words of the sense. An s is an adjective like another one.
SENSES = {
    "noun": [("n", "car auto motorcar"), ("n", "car railway_car"), ("n", "man adult_male"), ("n", "bus coach"), ("n", "Paris"), ("n", "S")],
    "verb": [("v", "walk"), ("v", "bus"), ("v", "go travel move"), ("v", "stop halt")],
    "adj": [("a", "awake(p)"), ("s", "large big"), ("s", "fast speedy")],
    "adv": [("r", "fast quickly"), ("r", "well")],
}
EXCEPTIONS = {"noun": "men man\n", "verb": "went go\nbusses bus\n", "adj": "", "adv": "best well\nbetter well\n"}


def write_wordnet(folder: Path, *, licence: str = LICENCE) -> Path:
    """The senses above in Princeton's format: data lines found by their offset, index lines sorted."""
    folder.mkdir(parents=True)
    for part, senses in SENSES.items():
        data, offsets = licence, {}
        for letter, text in senses:
            words = text.split()
            for word in words:
                offsets.setdefault(word.partition("(")[0].lower(), []).append(len(data))
            # nltk wants of an adjective like another one which it is like: the first of the file
            pointers = f"001 & {len(licence):08d} a 0000" if letter == "s" else "000"
            frames = " 00" if letter == "v" else ""
            listed = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08d} 00 {letter} {len(words):02x} {listed} {pointers}{frames} | what it means  \n"
        index = "".join(
            f"{word} {senses[0][0]} {len(places)} 1 @ {len(places)} 0 {' '.join(f'{place:08d}' for place in places)}  \n"
            for word, places in sorted(offsets.items())
        )
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(licence + index)
        (folder / f"{part}.exc").write_text(EXCEPTIONS[part])
    return folder


@pytest.fixture
def small(tmp_path) -> WordNet:
    return WordNet(write_wordnet(tmp_path / "small"))


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Path:
    """A machine without WordNet: nltk's folders and Debian's lie in an empty folder."""
    monkeypatch.delenv("WORDNET", raising=False)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(wordnet, "_places", lambda places=wordnet._places: (p for p in places() if p.is_relative_to(tmp_path)))
    return tmp_path


# --- synonyms ---


def test_synonyms_are_the_single_words_of_all_senses_of_all_parts_of_speech(small):
    assert small.synonyms("car") == {"car", "auto", "motorcar"}
    assert small.synonyms("bus") == {"bus", "coach"}
    assert small.synonyms("fast") == {"fast", "speedy", "quickly"}


def test_inflected_forms_lead_to_base_forms_and_irregular_ones_by_the_list(small):
    assert small.synonyms("cars") == {"car", "auto", "motorcar"}
    assert small.synonyms("walking") == {"walk"}
    assert small.synonyms("men") == {"man"}
    assert small.synonyms("went") == {"go", "travel", "move"}
    assert small.synonyms("bigger") == frozenset()  # "bigg" and "bigge" are no words
    assert small.synonyms("larger") == {"large", "big"}


def test_words_keep_their_spelling_and_lose_the_mark_of_their_place(small):
    assert small.synonyms("paris") == {"Paris"}
    assert small.synonyms("awake") == {"awake"}


@pytest.mark.parametrize("word", ["", "s", "es", "zebra", "a", "zz", "車", "(", "\x7f", "ca"])
def test_unknown_words_have_no_synonyms(small, word):
    assert small.synonyms(word) == (frozenset({"S"}) if word == "s" else frozenset())


def test_synonyms_are_those_of_nltk(small, tmp_path):
    theirs = open_with_nltk(small, tmp_path / "nltk")
    bases = {word.partition("(")[0].lower() for senses in SENSES.values() for _, text in senses for word in text.split()}
    words = {base + ending for base in bases for ending in ("", "s", "es", "ed", "d", "ing", "er", "r", "est", "men")}
    for word in words | {"men", "went", "busses", "best", "better", "stopped", "", "s", "railway"}:
        names = {lemma.name() for sense in theirs.synsets(word) for lemma in sense.lemmas()}
        assert small.synonyms(word) == {name for name in names if "_" not in name}, word


# --- where it lies ---


def test_no_wordnet_is_an_answer_not_an_error(nowhere):
    assert wordnet.find() is None


def test_the_folder_named_by_the_environment_comes_first(nowhere, monkeypatch):
    write_wordnet(nowhere / "nltk/corpora/wordnet")
    named = write_wordnet(nowhere / "named")
    monkeypatch.setenv("WORDNET", str(named))
    assert wordnet.find().place == named


def test_nltk_folders_are_searched_in_order_and_archives_are_read(nowhere, monkeypatch):
    unpacked = write_wordnet(nowhere / "second/corpora/wordnet")
    archive = nowhere / "nltk/corpora/wordnet.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as target:
        for path in unpacked.iterdir():
            target.write(path, f"wordnet/{path.name}")
    monkeypatch.setenv("NLTK_DATA", f"{nowhere / 'nltk'}:{nowhere / 'second'}")
    found = wordnet.find()
    assert found.place == archive
    assert found.synonyms("cars") == {"car", "auto", "motorcar"}
    monkeypatch.setenv("NLTK_DATA", f"{nowhere / 'empty'}:{nowhere / 'second'}")
    assert wordnet.find().place == unpacked
    monkeypatch.delenv("NLTK_DATA")
    assert wordnet.find() is None
    (nowhere / "second").rename(nowhere / "nltk_data")  # in the home folder
    assert wordnet.find().place == nowhere / "nltk_data/corpora/wordnet"


def test_debian_has_it_in_a_folder_of_its_own(monkeypatch):
    monkeypatch.delenv("NLTK_DATA", raising=False)
    assert list(wordnet._places())[-1] == Path("/usr/share/wordnet")


def test_a_named_folder_that_is_no_wordnet_is_an_error(nowhere, monkeypatch):
    monkeypatch.setenv("WORDNET", str(nowhere / "missing"))
    with pytest.raises(ConfigError) as error:
        wordnet.find()
    assert str(error.value) == (
        f"WORDNET={nowhere / 'missing'}: no index.noun in it; name a folder with the files of WordNet 3.0, or unset WORDNET"
    )


def test_another_version_is_passed_over_and_said(nowhere, caplog):
    folder = write_wordnet(nowhere / "nltk/corpora/wordnet", licence=LICENCE.replace("3.0", "3.1"))
    with caplog.at_level(logging.WARNING):
        assert wordnet.find() is None
    assert caplog.messages == [f"{folder} is passed over: not WordNet 3.0"]


def test_a_damaged_archive_is_passed_over(nowhere, caplog):
    archive = nowhere / "nltk/corpora/wordnet.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"no archive")
    with caplog.at_level(logging.WARNING):
        assert wordnet.find() is None
    assert caplog.messages == [f"{archive} is passed over: not readable (File is not a zip file)"]


def test_the_real_wordnet_knows_cars():
    found = wordnet.find()
    if found is None:
        pytest.skip("no WordNet 3.0 on this machine")
    assert {"auto", "automobile", "machine", "motorcar", "railcar"} <= found.synonyms("car")
    assert "paseo" in found.synonyms("walks") and "railway_car" not in found.synonyms("car")
    assert found.synonyms("pedestrian") >= {"walker", "footer", "prosaic"}
