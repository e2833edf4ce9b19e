"""Prompt review of dataengine: versions that never change, sheets written and read back, accuracy with its standard error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import files
from lib.errors import ConfigError, DataError
from lib.submissions.dataengine.prompt_review import (
    Accuracy,
    Prompt,
    Review,
    measure,
    read_prompt,
    read_sheet,
    sample,
    write_prompt,
    write_sheet,
)

HEADING = "query_id,version,verdict,reason,reply\n"
REPLIES = [{"image_id": number, "raw_instructions": None if number == 3 else f'Question: {number}?\n, "so"'} for number in range(12)]


def test_a_version_is_written_and_read_back(tmp_path):
    prompt = Prompt("v1.2", "Be exact.\n")
    assert write_prompt(tmp_path, prompt) == write_prompt(tmp_path, prompt) == tmp_path / "v1.2.txt"
    assert read_prompt(tmp_path, "v1.2") == prompt


def test_a_version_never_changes(tmp_path):
    write_prompt(tmp_path, Prompt("v1", "Be exact.\n"))
    with pytest.raises(ConfigError) as caught:
        write_prompt(tmp_path, Prompt("v1", "Be brief.\n"))
    message = f"{tmp_path}/v1.txt: version 'v1' has another text already; give the changed prompt a version of its own"
    assert (str(caught.value), read_prompt(tmp_path, "v1").text) == (message, "Be exact.\n")


@pytest.mark.parametrize("name", ["", "a/b", "..", "v 1"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        write_prompt(tmp_path, Prompt(name, ""))
    assert str(caught.value) == f"{name!r} cannot name a version of the prompt; use letters, digits, '-', '_' and '.', such as v2"


@pytest.mark.parametrize(("versions", "listed"), [((), "none"), (("v2", "v1"), "v1, v2")])
def test_an_unknown_version_is_refused_with_those_that_there_are(tmp_path, versions, listed):
    for version in versions:
        write_prompt(tmp_path, Prompt(version, ""))
    with pytest.raises(ConfigError) as caught:
        read_prompt(tmp_path, "v3")
    assert str(caught.value) == f"{tmp_path}: no version 'v3' of the prompt; there are: {listed}"


@given(st.integers(0, 20), st.integers(0, 100))
def test_a_sample_is_drawn_without_repetition_from_what_was_written(count, seed):
    reviews = sample(REPLIES, "v1", count=count, seed=seed)
    numbers = [int(review.query_id) for review in reviews]
    assert numbers == sorted(set(numbers)) and 3 not in numbers
    assert len(numbers) == min(count, 11)
    assert all(review == Review(str(n), "v1", "", "", f'Question: {n}?\n, "so"') for n, review in zip(numbers, reviews, strict=True))
    assert reviews == sample(REPLIES, "v1", count=count, seed=seed)


def test_a_sheet_is_read_back_as_it_was_written(tmp_path):
    reviews = sample(REPLIES, "v1", count=5, seed=0)
    write_sheet(tmp_path / "sheet.csv", reviews)
    assert read_sheet(tmp_path / "sheet.csv") == reviews
    write_sheet(tmp_path / "sheet.csv", [])
    assert files.read_text(tmp_path / "sheet.csv") == HEADING
    assert read_sheet(tmp_path / "sheet.csv") == []


def test_verdicts_are_read_as_a_spreadsheet_saves_them(tmp_path):
    text = "\ufeff" + HEADING.replace("\n", "\r\n") + '7,v1,Right ,,"a\nb"\r\n8,v1, WRONG, "no" ,c\r\n\r\n'
    files.write_text(tmp_path / "sheet.csv", text)
    assert read_sheet(tmp_path / "sheet.csv") == [Review("7", "v1", "right", "", "a\nb"), Review("8", "v1", "wrong", '"no"', "c")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " columns none; a review sheet has: query_id, version, verdict, reason, reply"),
        ("a,b\n", " columns a, b; a review sheet has: query_id, version, verdict, reason, reply"),
        (HEADING + "1,v1,right,,a\n2,v1,right\n", " row 2: 3 cells, not 5; put a text that has commas into quotes"),
        (HEADING + "1,v1,yes,,a\n", " row 1: verdict 'yes'; write right or wrong, or leave it empty for later"),
        (HEADING + "1,v1,wrong, ,a\n", " row 1: wrong without a reason; say what is wrong, as the next prompt is written from the reasons"),
    ],
)  # fmt: skip
def test_a_sheet_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "sheet.csv"
    files.write_text(path, text)
    with pytest.raises(DataError) as caught:
        read_sheet(path)
    assert str(caught.value) == f"{path}:{message}"


def test_accuracy_is_measured_by_version_among_what_was_judged():
    verdicts = [("v2", "right")] * 3 + [("v2", "wrong")] + [("v1", "wrong")] + [("v2", "")] * 2 + [("v3", "")]
    measured = measure(Review(str(n), version, verdict, "", "") for n, (version, verdict) in enumerate(verdicts))
    assert list(measured.items()) == [("v2", Accuracy(3, 4, 2)), ("v1", Accuracy(0, 1, 0)), ("v3", Accuracy(0, 0, 1))]
    assert (measured["v2"].share, measured["v2"].standard_error) == (0.75, pytest.approx((0.75 * 0.25 / 4) ** 0.5))
    assert (measured["v1"].share, measured["v1"].standard_error) == (0, 0)
    assert (measured["v3"].share, measured["v3"].standard_error) == (None, None)
