"""The README says what the code says: generated parts are up to date, and what it names exists."""

import re

from lib import files, paths
from lib.__main__ import build_parser
from tests import readme

TEXT = files.read_text(paths.ROOT / "README.md")


def test_generated_parts_are_what_python_m_tests_readme_writes_now():
    assert readme.render(TEXT) == TEXT


def test_every_linked_or_named_file_exists():
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    named = re.findall(r"`((?:lib|script|tests|notebooks|data|best-result-review)/[\w./-]+)`", TEXT)
    missing = [name for name in {*linked, *named} if not (paths.ROOT / name).exists()]
    assert not missing


def test_every_command_in_the_readme_parses():
    parser = build_parser()
    commands = re.findall(r"python -m lib ([^`\n#]+)", TEXT)
    assert commands
    for command in commands:
        assert parser.parse_args(command.split()).command


def test_the_levels_table_is_the_one_the_architecture_test_checks():
    from tests import test_architecture

    for level, modules in re.findall(r"^\| (\d) \| ([^|]+) \|$", TEXT, re.MULTILINE):
        for module in re.findall(r"[a-z_]+(?=,|$| \()", modules.strip()):
            if module in test_architecture.LEVELS:
                assert test_architecture.LEVELS[module] == int(level), module
