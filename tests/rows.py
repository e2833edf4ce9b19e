"""The check behind the tables of feature rows: every test that a row names as its proof is there."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parent

# What a row asks for, and its proofs: file without `test_` and `.py` -> functions without `test_`.
Row = tuple[str, Mapping[str, Sequence[str]]]


def absent_proofs(row: Row) -> list[str]:
    """The tests that the row names and that are not there, as file::function."""
    absent = []
    for module, names in row[1].items():
        folder, _, name = module.partition("/")
        there = functions(TESTS / folder / f"test_{name}.py")
        absent += [f"{module}::{one}" for one in names if f"test_{one}" not in there]
    return absent


def functions(path: Path) -> set[str]:
    """The functions at the top of a module."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
