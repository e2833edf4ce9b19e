"""Printed numbers and the arithmetic between them: rounding intervals, and the checks of a published table, computed.

A check is an expression over named facts such as `train + val == total`; nothing but numbers, names, + - * / // %,
comparisons and the functions below is understood, so a claims file cannot run code.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean
from typing import Annotated

import pydantic

from lib.errors import ConfigError

NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?")
BINARY: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
COMPARE: dict[type, tuple[str, Callable]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
OPPOSITE = {"==": "is not", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "rounds to": "does not round to"}
FUNCTIONS: dict[str, Callable] = {"floor": math.floor, "ceil": math.ceil, "sqrt": math.sqrt, "cos": math.cos, "abs": abs}
OF_SEVERAL: dict[str, Callable] = {"mean": fmean, "sum": math.fsum, "min": min, "max": max}


@dataclass(frozen=True)
class Printed:
    """A number as it was printed; its digits say how exact it is."""

    text: str

    def __post_init__(self) -> None:
        """Raises ConfigError for a text that is not one number."""
        if not NUMBER.fullmatch(self.text):
            raise ConfigError(f"not a printed number: {self.text!r}; write digits as printed, such as .8771, 126,117 or 4e-7")

    @property
    def exact(self) -> Decimal:
        """The printed value without its thousands separators."""
        return Decimal(self.text.replace(",", ""))

    @property
    def value(self) -> float:
        """The printed value as a float."""
        return float(self.exact)

    @property
    def unit(self) -> float:
        """One unit of the last printed digit: 0.0001 for .8771, 1 for 126,117, 1e-07 for 4e-7."""
        return float(Decimal(1).scaleb(int(self.exact.as_tuple().exponent)))

    @property
    def low(self) -> float:
        """The smallest value that rounds to the printed digits (either way of rounding a half)."""
        return self.value - self.unit / 2

    @property
    def high(self) -> float:
        """The largest value that rounds to the printed digits."""
        return self.value + self.unit / 2

    def rounds_from(self, value: float) -> bool:
        """Whether the value, rounded to the printed digits, is the printed number."""
        slack = 1e-9 * self.unit  # the float nearest to a half may lie on its far side
        return self.low - slack <= value <= self.high + slack


def _check_printed(text: object) -> str:
    """The text of a printed number; YAML would turn an unquoted .4090 into 0.409 and lose a digit."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} has to be quoted so that its printed digits are kept")
    try:
        return Printed(text).text
    except ConfigError as error:
        raise ValueError(str(error)) from None


PrintedText = Annotated[str, pydantic.BeforeValidator(_check_printed)]


class Fact(pydantic.BaseModel):
    """A named value of the published material, as printed, or an expression over other facts."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    value: PrintedText | None = None
    derive: str | None = None
    source: str

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> "Fact":
        if (self.value is None) == (self.derive is None):
            raise ValueError("a fact has either a printed `value` or an expression `derive`")
        return self


Facts = Mapping[str, Printed | str]  # a str is an expression over other facts


@dataclass(frozen=True)
class Outcome:
    """What a check came to: both sides as numbers, and whether the relation that was stated holds."""

    holds: bool
    left: float
    right: float
    relation: str

    @property
    def text(self) -> str:
        """Both sides and how they stand to each other: `136,117 == 136,117`, `9,958 is not 10,000`."""
        relation = self.relation if self.holds else OPPOSITE[self.relation]
        return f"{number(self.left)} {relation} {number(self.right)}"


def number(value: float) -> str:
    """A number for reading: whole ones with thousands separators, others with six significant digits, 4e-7 for 4e-07."""
    if math.isfinite(value) and float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return re.sub(r"e([-+])0+", r"e\1", f"{value:.6g}")


def compute(expression: str, facts: Facts) -> float:
    """The value of an expression over the facts. Raises ConfigError naming the part it does not understand."""
    return _value(_parse(expression), facts, expression, ())


def check(expression: str, facts: Facts) -> Outcome:
    """Evaluate `a == b` (any comparison) or `agrees(a, fact)`: a rounds to the digits printed for that fact."""
    node = _parse(expression)
    # agrees() is no function of two numbers: it needs the printed digits of its second argument, not only their value.
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "agrees":
        return _agreement(node, facts, expression)
    if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in COMPARE:
        raise ConfigError(f"a check compares two sides, got {expression!r}; write a == b or agrees(a, fact)")
    sign, holds = COMPARE[type(node.ops[0])]
    left, right = (_value(side, facts, expression, ()) for side in (node.left, node.comparators[0]))
    return Outcome(bool(holds(left, right)), left, right, sign)


def _agreement(node: ast.Call, facts: Facts, expression: str) -> Outcome:
    name = node.args[1].id if len(node.args) == 2 and isinstance(node.args[1], ast.Name) else ""
    printed = facts.get(name)
    if not isinstance(printed, Printed):
        raise ConfigError(f"agrees() needs an expression and the name of a printed fact, got {expression!r}")
    left = _value(node.args[0], facts, expression, ())
    return Outcome(printed.rounds_from(left), left, printed.value, "rounds to")


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise ConfigError(f"not an expression: {expression!r} ({error.msg})") from None


def _value(node: ast.expr, facts: Facts, expression: str, open_facts: tuple[str, ...]) -> float:
    """The number a node stands for; `open_facts` are the derived facts being computed, so that a circle is found."""
    # `type(...) in`, not isinstance: True and False are integers to Python and no numbers of a table.
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Name):
        return _named(node.id, facts, expression, open_facts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, facts, expression, open_facts)
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = (_value(side, facts, expression, open_facts) for side in (node.left, node.right))
        if right == 0 and type(node.op) in (ast.Div, ast.FloorDiv, ast.Mod):
            raise ConfigError(f"{ast.unparse(node.right)!r} in {expression!r} is 0, nothing can be divided by it")
        return BINARY[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        values = [_value(argument, facts, expression, open_facts) for argument in node.args]
        if node.func.id in FUNCTIONS and len(values) == 1:
            return FUNCTIONS[node.func.id](values[0])
        if node.func.id in OF_SEVERAL and values:
            return OF_SEVERAL[node.func.id](values)
    raise ConfigError(
        f"{ast.unparse(node)!r} in {expression!r} is not arithmetic over facts; use numbers, names, + - * / // % and functions"
    )


def _named(name: str, facts: Facts, expression: str, open_facts: tuple[str, ...]) -> float:
    if name == "pi":
        return math.pi
    if name not in facts:
        raise ConfigError(f"no fact is called {name!r} in {expression!r}; the facts are: {', '.join(facts)}")
    if name in open_facts:
        raise ConfigError(f"the fact {name!r} is defined by itself: {' -> '.join((*open_facts, name))}")
    fact = facts[name]
    if isinstance(fact, Printed):
        # Whole numbers stay integers of any size: 2,539,567,105 must not pass through a float's rounding.
        exact = fact.exact
        return int(exact) if exact == exact.to_integral_value() and fact.unit >= 1 else float(exact)
    return _value(_parse(fact), facts, fact, (*open_facts, name))
