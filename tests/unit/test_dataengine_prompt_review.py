"""Prompt review of dataengine: versions that never change, sheets written and read back, accuracy with its standard error."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import files, paths
from lib.errors import DataError
from lib.submissions.dataengine.prompt_review import (
    Accuracy,
    Review,
    main,
    measure,
    read_prompt,
    read_sheet,
    read_sheets,
    sample,
    write_sheet,
)

HEADING = "query_id,version,verdict,reason,reply\n"
REPLIES = [{"image_id": number, "raw_instructions": None if number == 3 else f'Question: {number}?\n, "so"'} for number in range(12)]


def test_without_a_file_the_prompt_is_the_published_rules():
    prompt = read_prompt(None)
    assert re.fullmatch(r"published-rules-[0-9a-f]{8}", prompt.version)
    assert prompt.text == files.read_text(paths.SUBMISSIONS / "dataengine/published-rules.txt")
    assert re.findall(r"^(\d+)\. ", prompt.text, re.MULTILINE) == [str(number) for number in range(1, 13)]


def test_a_version_is_a_file_and_its_text_wherever_it_lies(tmp_path):
    for name, text in (("v1.2.txt", "Be exact.\n"), ("there/v1.2.txt", "Be exact.\n"), ("changed/v1.2.txt", "Be brief.\n")):
        files.write_text(tmp_path / name, text)
    first, there, changed = (read_prompt(tmp_path / folder / "v1.2.txt") for folder in (".", "there", "changed"))
    assert first == there and first.text == "Be exact.\n" and changed.text == "Be brief.\n"
    assert first.version != changed.version
    assert {one.version.rpartition("-")[0] for one in (first, changed)} == {"v1.2"}


def test_a_version_without_instructions_is_refused(tmp_path):
    files.write_text(tmp_path / "v1.txt", " \n")
    with pytest.raises(DataError) as caught:
        read_prompt(tmp_path / "v1.txt")
    assert str(caught.value) == (
        f"{tmp_path}/v1.txt: no instructions in it; write what the writer is to do, as published-rules.txt of the submission does"
    )


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


# --- several sheets ---

MINE = [Review("1", "v1", "right", "", "a"), Review("2", "v1", "", "", "b"), Review("3", "v1", "wrong", "no", "c")]
THEIRS = [
    Review("2", "v1", "right", "", "b"),
    Review("3", "v1", "", "", "c"),
    Review("3", "v1", "right", "", "another"),
    Review("3", "v2", "", "", "c"),
]


def test_a_reply_on_two_sheets_counts_once_as_it_was_judged(tmp_path):
    write_sheet(tmp_path / "sheets/a.csv", MINE)
    write_sheet(tmp_path / "sheets/b.csv", THEIRS)
    (tmp_path / "sheets/notes.txt").touch()
    expected = [MINE[0], THEIRS[0], MINE[2], *THEIRS[2:]]
    assert read_sheets([tmp_path / "sheets"]) == read_sheets([tmp_path / "sheets/a.csv", tmp_path / "sheets/b.csv"]) == expected
    assert measure(expected) == {"v1": Accuracy(3, 4, 0), "v2": Accuracy(0, 0, 1)}


def test_sheets_that_contradict_each_other_are_refused(tmp_path):
    write_sheet(tmp_path / "a.csv", MINE)
    write_sheet(tmp_path / "b.csv", [Review("3", "v1", "right", "", "c")])
    with pytest.raises(DataError) as caught:
        read_sheets([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path}/b.csv: right for a reply to v1 about picture 3, which another sheet has as wrong; agree on one"
    )


def test_a_folder_without_sheets_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        read_sheets([tmp_path])
    assert str(caught.value) == f"{tmp_path}: no sheet in it; put copies of 02's review.csv there, with verdicts"


def test_the_program_prints_a_line_per_version(tmp_path, capsys):
    write_sheet(tmp_path / "a.csv", [*MINE, Review("4", "v2", "", "", "d")])
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "v1: 50.0% right, standard error 35.4% (1 of 2 judged, 1 open)\nv2: nothing judged yet (0 of 0 judged, 1 open)\n"
    )
    assert main([str(tmp_path / "b.csv")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/b.csv: no such file; bring it, or make it again\n"
