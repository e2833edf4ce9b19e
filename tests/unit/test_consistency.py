"""Printed numbers keep their digits, and checks are computed from them by arithmetic and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import consistency
from lib.consistency import Printed
from lib.errors import ConfigError

FACTS = {
    "train": Printed("126,117"),
    "val": Printed("10,000"),
    "total": Printed("136,117"),
    "both": "train + val",
    "share": Printed("85.9"),
    "nothing": Printed("0"),
}


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (".8771", 0.8771, 1e-4),
        ("126,117", 126117, 1),
        ("4e-7", 4e-7, 1e-7),
        ("3.98700e-7", 3.987e-7, 1e-12),
        ("-1.50", -1.5, 0.01),
    ],
)
def test_a_printed_number_knows_its_value_and_its_last_digit(text, value, unit):
    assert Printed(text).value == value
    assert Printed(text).unit == pytest.approx(unit)


@given(st.integers(0, 10**6), st.integers(0, 6), st.floats(-0.499, 0.499))
def test_what_rounds_to_the_digits_is_inside_and_what_does_not_is_outside(digits, places, shift):
    printed = Printed(f"{digits / 10**places:.{places}f}")
    assert printed.rounds_from(printed.value + shift * printed.unit)
    assert not printed.rounds_from(printed.value + (shift + 1.01) * printed.unit + printed.unit * 0.01)


@pytest.mark.parametrize("text", ["", "6th", "1/2", "nan", ". 5", "0x10"])
def test_what_is_not_one_number_is_refused(text):
    with pytest.raises(ConfigError) as error:
        Printed(text)
    assert str(error.value) == f"not a printed number: {text!r}; write digits as printed, such as .8771, 126,117 or 4e-7"


@pytest.mark.parametrize(
    ("expression", "holds", "text"),
    [
        ("train + val == total", True, "136,117 == 136,117"),
        ("both == total", True, "136,117 == 136,117"),
        ("train == total", False, "126,117 is not 136,117"),
        ("floor(train / 25) == 5044", True, "5,044 == 5,044"),
        ("mean(1, 2, 6) > 3", False, "3 <= 3"),
        ("-val % 3 == 2", True, "2 == 2"),
        ("agrees(100 * 1003 / 1168, share)", True, "85.8733 rounds to 85.9"),
        ("agrees(85.8, share)", False, "85.8 does not round to 85.9"),
        ("4e-7 * 1 / 10000 < cos(pi) + 2", True, "4e-11 < 1"),
    ],
)
def test_a_check_is_computed_from_the_facts(expression, holds, text):
    outcome = consistency.check(expression, FACTS)
    assert (outcome.holds, outcome.text) == (holds, text)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("train + val", "a check compares two sides, got 'train + val'; write a == b or agrees(a, fact)"),
        (
            "train == wrong",
            "no fact is called 'wrong' in 'train == wrong'; the facts are: train, val, total, both, share, nothing",
        ),
        ("train = 3", "not an expression: 'train = 3' (invalid syntax)"),
        ("train / nothing == 1", "'nothing' in 'train / nothing == 1' is 0, nothing can be divided by it"),
        ("agrees(train, both)", "agrees() needs an expression and the name of a printed fact, got 'agrees(train, both)'"),
    ],
)
def test_a_check_that_cannot_be_computed_says_why(expression, message):
    with pytest.raises(ConfigError) as error:
        consistency.check(expression, FACTS)
    assert str(error.value) == message


@pytest.mark.parametrize("code", ["__import__('os').getcwd()", "[1][0]", "(1).real", "open('x')", "'a' * 3", "lambda: 1", "True", "2 ** 9"])
def test_nothing_but_arithmetic_is_understood(code):
    with pytest.raises(ConfigError, match="is not arithmetic over facts; use numbers, names"):
        consistency.compute(code, FACTS)


def test_a_fact_that_is_defined_by_itself_is_named():
    with pytest.raises(ConfigError) as error:
        consistency.compute("a", {"a": "b + 1", "b": "a"})
    assert str(error.value) == "the fact 'a' is defined by itself: a -> b -> a"


@pytest.mark.parametrize(
    ("value", "text"), [(136117.0, "136,117"), (0.71346, "0.71346"), (4e-07, "4e-7"), (float("nan"), "nan"), (1e20, "1e+20")]
)
def test_numbers_are_written_for_reading(value, text):
    assert consistency.number(value) == text
