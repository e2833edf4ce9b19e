"""What notebooks display: complete, escaped, aligned as text, and in colours that do not overclaim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import claims as ladder
from lib import show
from lib.claims import Check, CheckResult, Claim, Verdict
from lib.consistency import check

EVIL = "<script>alert('x')</script> & \"more\""


def verdict(word: str, **changes: object) -> Verdict:
    claim = Claim(id="a", statement=EVIL, kind="number", source="s", status="confirmed", value=".40", benchmark="b", metric="m", unit="R@1")
    return Verdict(claim, word, "because", **changes)


def test_a_table_shows_its_rows_as_text_and_as_html():
    shown = show.table([{"name": "a", "count": 1234}, {"name": "b", "share": 0.71234}])
    assert repr(shown).splitlines() == [
        "name  count  share",
        "----  -----  ------",
        "a     1,234",
        "b            0.7123",
    ]
    assert shown._repr_html_().count("<tr>") == 3
    assert "1,234" in shown._repr_html_()


def test_columns_choose_and_order():
    assert repr(show.table([{"a": 1, "b": 2}], columns=["b"])).splitlines()[0] == "b"


def test_a_long_table_says_how_much_it_leaves_out():
    shown = show.table([{"row": index} for index in range(250)])
    assert repr(shown).endswith("50 more rows")
    assert "50 more rows" in shown._repr_html_()


def test_a_commit_is_never_broken_in_two_and_a_long_path_may_be():
    html = show.table([{"commit": "f23b17626623", "folder": "log/a3r/20261120-133333_tiny_base"}]).html
    assert 'white-space:nowrap">f23b17626623<' in html and 'overflow-wrap:anywhere">log/a3r/' in html


def test_an_empty_table_is_no_crash():
    assert repr(show.table([], columns=["a"])).splitlines()[0] == "a"


@pytest.mark.parametrize(
    "shown",
    [
        show.table([{EVIL: EVIL}]),
        show.claims([verdict(ladder.REPRODUCED)]),
        show.record({EVIL: EVIL}),
        show.note(EVIL),
        show.checks([CheckResult(Check(id="c", statement=EVIL, expression="1 == 1"), check("1 == 1", {}))]),
    ],
)
def test_nothing_shown_becomes_markup(shown):
    assert "<script" not in shown._repr_html_()
    assert "&lt;script&gt;" in shown._repr_html_()
    assert "<script>" in repr(shown)


@given(st.text())
def test_no_text_whatsoever_opens_a_tag(text):
    inside = show.note(text)._repr_html_().removesuffix("</div>").split(">", 1)[1]
    assert "<" not in inside
    assert ">" not in inside


def test_only_the_two_green_words_are_green_and_every_word_has_a_colour():
    assert set(show.COLOURS) == set(ladder.LADDER)
    assert {word for word, colour in show.COLOURS.items() if colour == show.GREEN} == ladder.GREEN
    for word in (ladder.CODE_PATH_ONLY, ladder.NOT_TESTABLE, ladder.NOT_CONFIRMED):
        assert show.COLOURS[word] == show.GREY
        assert show.GREEN not in show.claims([verdict(word)])._repr_html_()


def test_the_claims_table_shows_both_numbers_the_word_and_why():
    shown = show.claims([verdict(ladder.WITHIN_NOISE, measured=0.4123, power="10 items tell 0.3 apart")])
    line = repr(shown).splitlines()[2]
    for part in (".40 R@1", "0.4123", "WITHIN NOISE", "because; 10 items tell 0.3 apart"):
        assert part in line
        assert part in shown._repr_html_()


def test_a_record_is_shown_in_full_with_its_line_ends():
    shown = show.record({"id": 7, "prompt": "first\nsecond " + "x" * 500})
    assert repr(shown).splitlines()[0:3] == ["id      7", "prompt  first", "        second " + "x" * 500]
    assert "pre-wrap" in shown._repr_html_()
    assert "x" * 500 in shown._repr_html_()


def test_a_note_stands_out_in_a_terminal_too():
    assert repr(show.note("Mind this.")) == "NOTE: Mind this."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (12345, "12,345"),
        (0.123456, "0.1235"),
        (3.0, "3"),
        (float("nan"), "nan"),
        ([1, "a"], "1, a"),
    ],
)
def test_values_are_written_for_reading(value, text):
    assert show.value_text(value) == text
