"""Golden case 24: real open_clip log lines, params.txt and run names are read to exactly the recorded fields."""

import re

import pytest

from lib.curves import parse_params, read_log_line, read_run_name
from lib.errors import DataError
from tests.golden.loading import cases

FILE = "24_log_lines.json"


def test_every_recorded_line_gives_its_recorded_fields():
    recorded = cases("a3r", FILE)["cases"]
    assert recorded
    for case in recorded:
        found = read_log_line(case["line"])
        assert found == case["fields"], case["line"]


def test_the_recorded_params_give_their_recorded_fields():
    example = cases("a3r", FILE)["params_txt_example"]
    assert parse_params(example["text"], "params.txt") == example["fields"]


def test_the_run_name_follows_the_recorded_rule():
    content = cases("a3r", FILE)
    name = content["params_txt_example"]["fields"]["name"]
    placeholders = dict(read_run_name(name))
    placeholders["YYYY_MM_DD-HH_MM_SS"] = placeholders.pop("time")
    rule = content["run_name_rule"].split(";")[0]
    assert re.sub(r"\{([^}]+)\}", lambda field: placeholders[field[1]], rule) == name


@pytest.mark.parametrize("cut", [10, 40, 90, 150])
def test_a_recorded_line_that_breaks_off_is_never_read_as_another(cut: int):
    for case in cases("a3r", FILE)["cases"]:
        if len(case["line"]) <= cut + 5:
            continue
        try:
            found = read_log_line(case["line"][:cut])
        except DataError:
            continue
        assert found is None
