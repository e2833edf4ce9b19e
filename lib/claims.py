"""Published numbers with their source, and the verdict ladder: exactly one of seven words per claim, with a reason.

A claim is read from `claims.yaml`, a score from a run's `metrics.json`; `judge` puts them together. Only the full profile can
turn a published score green, because only it runs the published recipe on the published data; a tiny run is CODE PATH ONLY,
whatever it scores. A result significantly better than the paper is flagged like one that is worse (ecosystem.md section 8).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from lib import consistency, files, noise
from lib.consistency import Fact, Printed, PrintedText, number
from lib.errors import ConfigError, DataError

REPRODUCED = "REPRODUCED"
WITHIN_NOISE = "WITHIN NOISE"
DIRECTION_ONLY = "DIRECTION ONLY"
NOT_REPRODUCED = "NOT REPRODUCED"
CODE_PATH_ONLY = "CODE PATH ONLY"
NOT_TESTABLE = "NOT TESTABLE HERE"
NOT_CONFIRMED = "SOURCE NOT CONFIRMED"
LADDER = (REPRODUCED, WITHIN_NOISE, DIRECTION_ONLY, NOT_REPRODUCED, CODE_PATH_ONLY, NOT_TESTABLE, NOT_CONFIRMED)
Model = TypeVar("Model", bound=pydantic.BaseModel)
GREEN = frozenset({REPRODUCED, WITHIN_NOISE})
TRAINED = "finetuned"  # the model under test, in score rows and references
CONTROLS = frozenset({"base", "untrained", "random", "shuffled", "swapped", "zeroed", "text_only"})  # rows that must score lower
UNCONFIRMED = {
    "readme_only": "only the authors' README says so",
    "not_confirmed": "the source could not be read",
    "not_found": "no source gives the number",
    "unverifiable": "no published file can decide it",
}


class Record(pydantic.BaseModel):
    """Base of what claims.yaml and metrics.json hold: frozen; a misspelt field is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Tolerance(Record):
    """What may count as the same number, and the basis for saying so."""

    basis: Literal["printed digits", "binomial", "assumed"] = "printed digits"  # binomial: a share counted over n items
    whole: float = 1.0  # for basis binomial: the score where every item is right, 100 where scores are in percent
    assumed: float | None = None  # half width in printed units, for basis "assumed" only
    because: str = ""

    @pydantic.model_validator(mode="after")
    def _assumption_is_declared(self) -> "Tolerance":
        if (self.basis == "assumed") != (self.assumed is not None):
            raise ValueError("`assumed` (a half width) belongs to basis: assumed, and only to it")
        if self.assumed is not None and not self.because:
            raise ValueError("an assumed tolerance says `because` what")
        return self


class Claim(Record):
    """One published statement: a score, a structural fact, a qualitative finding, or context."""

    id: str
    statement: str
    kind: Literal["number", "structural", "qualitative", "context"]
    source: str
    status: Literal["confirmed", "stated", "readme_only", "not_confirmed", "not_found", "unverifiable", "contradicted"]
    because: str = ""  # what the status rests on; a contradicted claim must say it
    value: PrintedText | None = None
    unit: str = ""
    split: str = ""
    benchmark: str | None = None
    metric: str | None = None
    group: str = "all"
    model: str = TRAINED  # the score row that answers the claim
    over: str = "base"  # the control row an improvement is measured against
    better: Literal["higher", "lower"] = "higher"
    scale: float = 1.0  # our value times this is in printed units (100 for percent)
    where: dict[str, str] = {}  # columns that a stage adds to its rows, and what they say where the row answers the claim
    proxy: str = ""  # our score stands in for one that a server gives, and how: shown in every run, never a verdict on the claim
    derive: str | None = None  # a structural fact the kit computes from the facts
    tolerance: Tolerance = Tolerance()
    needs: tuple[str, ...] = ()

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "Claim":
        if self.kind == "number" and self.status in ("confirmed", "stated") and (self.value is None or self.metric is None):
            raise ValueError("a number that can be tested needs `value`, `benchmark` and `metric`")
        if self.derive is not None and (self.kind != "structural" or self.value is None):
            raise ValueError("`derive` belongs to a structural claim with a printed `value`")
        if self.status == "contradicted" and not self.because:
            raise ValueError("a contradicted claim says `because` what")
        if self.proxy and not self.needs:
            raise ValueError("a claim that has only a proxy says what it `needs`")
        return self

    @property
    def printed(self) -> Printed | None:
        """The published number, or None where the claim has none."""
        return None if self.value is None else Printed(self.value)

    def beats(self, ours: float, other: float) -> bool:
        """Whether `ours` is better than `other` in this claim's direction."""
        return ours > other if self.better == "higher" else ours < other


class Check(Record):
    """A consistency check of the published numbers: an expression that code evaluates."""

    id: str
    statement: str
    expression: str


class ClaimBook(Record):
    """The content of a claims.yaml: facts by name, claims, consistency checks."""

    submission: str
    facts: dict[str, Fact] = {}
    claims: tuple[Claim, ...]
    checks: tuple[Check, ...] = ()

    @pydantic.model_validator(mode="after")
    def _unique(self) -> "ClaimBook":
        counted = Counter([claim.id for claim in self.claims] + [check.id for check in self.checks])
        twice = [name for name, count in counted.items() if count > 1]
        if twice:
            raise ValueError(f"the id {twice[0]!r} is used twice")
        return self

    @property
    def known(self) -> dict[str, Printed | str]:
        """The facts as `lib.consistency` takes them."""
        return {name: Printed(fact.value) if fact.value is not None else str(fact.derive) for name, fact in self.facts.items()}


class Score(pydantic.BaseModel):
    """One row of metrics.json. `items` are the values per test item, `seeds` those of repeated runs whose mean is `value`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")  # a stage may add columns of its own

    benchmark: str
    metric: str
    group: str = "all"
    model: str = TRAINED
    value: float
    n: int | None = pydantic.Field(default=None, ge=1)
    items: tuple[float, ...] | None = None
    seeds: tuple[float, ...] | None = None
    basis: Literal["run", "published files", "architecture"] = "run"

    @property
    def key(self) -> tuple[str, str, str]:
        """What claims, references and controls are matched by."""
        return self.benchmark, self.metric, self.group


class Reference(Record):
    """Values of one score over at least five seeds of the tiny profile."""

    benchmark: str
    metric: str
    group: str = "all"
    model: str = TRAINED
    values: tuple[float, ...]
    seeds: tuple[int, ...] = ()

    @property
    def band(self) -> noise.Band:
        """The band of these values. Raises ConfigError for fewer than five."""
        return noise.Band(self.values)


@dataclass(frozen=True)
class Verdict:
    """One word of the ladder for one claim, and why."""

    claim: Claim
    word: str
    reason: str
    measured: float | None = None  # in printed units
    suspicious: bool = False  # significantly better than published
    power: str = ""


@dataclass(frozen=True)
class CheckResult:
    """A consistency check and what it came to."""

    check: Check
    outcome: consistency.Outcome


def read_claims(path: Path) -> ClaimBook:
    """The claims of a submission. Raises DataError naming file, entry and field."""
    return _validated(ClaimBook, files.read_yaml(path), path)


def read_scores(path: Path) -> list[Score]:
    """The rows of a run's metrics.json (`{"scores": [...]}`). Raises DataError naming file, row and field."""
    rows = _rows(path, "scores")
    return [_validated(Score, row, f"{path}: scores[{index}]") for index, row in enumerate(rows)]


def read_references(path: Path) -> list[Reference]:
    """The recorded values of the tiny profile (`{"references": [...]}`). Raises DataError; ConfigError for fewer than five."""
    rows = _rows(path, "references")
    references = [_validated(Reference, row, f"{path}: references[{index}]") for index, row in enumerate(rows)]
    for reference in references:
        reference.band.limits()
    return references


def write_references(path: Path, references: Iterable[Reference]) -> None:
    """Write reference values so that `read_references` reads them back."""
    files.write_json(path, {"references": [reference.model_dump() for reference in references]})


def _rows(path: Path, key: str) -> list:
    content = files.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataError(f'{path}: an object with a list "{key}" expected; was it written by another stage?')
    return content[key]


def _validated(kind: type[Model], value: object, place: Path | str) -> Model:
    try:
        return kind.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise DataError(f"{place}: {field}: {first['msg'].removeprefix('Value error, ')}") from None


def run_checks(book: ClaimBook) -> list[CheckResult]:
    """Evaluate every consistency check of the book."""
    return [CheckResult(check, consistency.check(check.expression, book.known)) for check in book.checks]


def judge_all(book: ClaimBook, scores: Iterable[Score | Mapping], *, profile: str, references: Sequence[Reference] = ()) -> list[Verdict]:
    """One verdict per claim, in the order of the book; `profile` is that of the run the scores come from."""
    rows = [score if isinstance(score, Score) else _validated(Score, dict(score), "scores") for score in scores]
    twice = [row for row, count in Counter((*score.key, score.model) for score in rows).items() if count > 1]
    if twice:
        raise DataError(f"scores: two rows for {' / '.join(twice[0])}; keep the one that counts")
    return [judge(claim, rows, profile=profile, facts=book.known, references=references) for claim in book.claims]


def judge(
    claim: Claim, scores: Sequence[Score], *, profile: str, facts: consistency.Facts | None = None, references: Sequence[Reference] = ()
) -> Verdict:
    """The verdict for one claim: from the top, the first rung that applies (design.md section 8)."""
    # What the source cannot bear comes first: no score of ours can confirm a number nobody printed.
    if claim.status in UNCONFIRMED:
        return Verdict(claim, NOT_CONFIRMED, claim.because or UNCONFIRMED[claim.status])
    if claim.status == "contradicted":
        return Verdict(claim, NOT_REPRODUCED, f"contradicted by the published material: {claim.because}")
    if claim.kind == "context":
        return Verdict(claim, NOT_TESTABLE, claim.because or "context: nothing of this submission produces it")
    if claim.derive is not None:
        return _judge_digits(claim, consistency.compute(claim.derive, facts or {}), f"computed: {claim.derive}")
    score = _row(claim, scores, claim.model)
    needed = ", ".join(claim.needs) or f"a {claim.model} score {claim.metric} on {claim.benchmark}"
    if score is None:
        return Verdict(claim, NOT_TESTABLE, f"needs {needed}")
    # A diverged run is a failure of the machinery too, hence before the profile is asked.
    if not math.isfinite(score.value):
        return Verdict(claim, NOT_REPRODUCED, f"the run came to {score.value}, which is no score", score.value)
    if claim.kind == "structural" and score.basis != "run":
        return _judge_digits(claim, score.value * claim.scale, f"re-derived from the {score.basis}")
    # NOTE: without this a tiny run could turn a published score green by declaring another basis.
    if score.basis != "run":
        raise ConfigError(f"{claim.id}: a score with basis {score.basis!r} cannot answer a {claim.kind} claim; only a run can")
    if profile != "full":
        return Verdict(claim, CODE_PATH_ONLY, _tiny_reason(score, profile, references), score.value * claim.scale)
    other = _elsewhere(claim, score)
    if other:
        return Verdict(claim, NOT_TESTABLE, f"needs {needed}; the score of this run has {other}")
    if claim.proxy:
        ours = score.value * claim.scale
        return Verdict(claim, NOT_TESTABLE, f"needs {needed}; ours, {number(ours)}, is a proxy: {claim.proxy}", ours)
    if claim.kind == "structural":
        return _judge_digits(claim, score.value * claim.scale, "counted in this run")
    if claim.kind == "qualitative":
        return _judge_direction(claim, score, _row(claim, scores, claim.over))
    return _judge_number(claim, score, scores)


def _row(claim: Claim, scores: Sequence[Score], model: str) -> Score | None:
    """The row of that model; for the claim's own model rather the one, of whatever model, that is `where` the claim says."""
    rows = [score for score in scores if score.key == (claim.benchmark, claim.metric, claim.group)]
    there = [score for score in rows if claim.where and model == claim.model and not _elsewhere(claim, score)]
    return next(iter([*there, *(score for score in rows if score.model == model)]), None)


def _elsewhere(claim: Claim, score: Score) -> str:
    """The first column in which the row is not the one that the claim is about, and what it says there; empty if there is none."""
    said = {name: (score.model_extra or {}).get(name) for name in claim.where}
    return next((f"{name}: {said[name]}" for name, wanted in claim.where.items() if said[name] != wanted), "")


def _judge_digits(claim: Claim, value: float, how: str) -> Verdict:
    """Structural facts have no noise: the printed digits, or not."""
    assert claim.printed is not None, "a structural claim without a value was let through"
    if claim.printed.rounds_from(value):
        return Verdict(claim, REPRODUCED, how, value)
    return Verdict(claim, NOT_REPRODUCED, f"{how} gives {number(value)}, published {claim.value}", value)


def _tiny_reason(score: Score, profile: str, references: Sequence[Reference]) -> str:
    said = f"{profile} profile: {score.metric} {number(score.value)} tests the machinery, not the claim"
    found = [row for row in references if (row.benchmark, row.metric, row.group) == score.key and row.model == score.model]
    if not found:
        return said
    low, high = found[0].band.limits()
    return f"{said}; {found[0].band.place(score.value)} its reference band {low:.4f} to {high:.4f} ({len(found[0].values)} seeds)"


def _judge_number(claim: Claim, score: Score, scores: Sequence[Score]) -> Verdict:
    """Rounding interval, then noise, then direction; `scores` hold the controls of the same benchmark, metric and group."""
    printed, ours = claim.printed, score.value * claim.scale
    assert printed is not None, "a testable number without a value was let through"
    power = power_line(claim, score)
    if printed.rounds_from(ours):
        return Verdict(claim, REPRODUCED, f"rounds to the printed {claim.value}", ours, power=power)
    interval = noise_interval(claim, score)
    gap = f"ours {number(ours)}, published {claim.value}"
    # A test that cannot tell our model from a control cannot tell it from the paper's either.
    controls = [row for row in scores if row.key == score.key and row.model in CONTROLS | {claim.over}]
    swallowed = [row.model for row in controls if interval is not None and interval.contains(row.value * claim.scale)]
    if interval is None:
        return Verdict(claim, NOT_REPRODUCED, f"{gap}; no noise model (give n, per-item values or seeds)", ours, power=power)
    why = f"{gap}; {interval}"
    if swallowed:
        return Verdict(claim, NOT_REPRODUCED, f"{why} also holds the control {swallowed[0]}", ours, power=power)
    if interval.overlaps(printed.low, printed.high):
        return Verdict(claim, WITHIN_NOISE, why, ours, power=power)
    # From here on the published number is outside the noise; above it is as conspicuous as below (MLPerf).
    if claim.beats(ours, printed.value):
        advice = "look for leakage, another split or another denominator"
        return Verdict(claim, NOT_REPRODUCED, f"suspiciously better: {why}; {advice}", ours, suspicious=True, power=power)
    control = next((row for row in controls if row.model == claim.over), None)
    if control is not None and claim.beats(ours, control.value * claim.scale):
        return Verdict(claim, DIRECTION_ONLY, f"{why}; better than {claim.over}, by less than published", ours, power=power)
    return Verdict(claim, NOT_REPRODUCED, why, ours, power=power)


def noise_interval(claim: Claim, score: Score) -> noise.Interval | None:
    """Where the score may lie by chance, in printed units: by seeds, test items, counting, or the declared assumption."""
    whole = claim.tolerance.whole
    if score.seeds is not None and len(score.seeds) >= 3:
        found = noise.prediction_interval(score.seeds)
    elif score.items:
        found = noise.bootstrap_interval(score.items, seed=0)
    elif claim.tolerance.basis == "binomial" and score.n is not None and 0 <= score.value <= whole:
        share = noise.wilson_interval(score.value / whole, score.n)
        found = noise.Interval(share.low * whole, share.high * whole, share.test)
    elif claim.tolerance.assumed is not None:
        width = claim.tolerance.assumed / claim.scale
        found = noise.Interval(score.value - width, score.value + width, f"assumed tolerance ({claim.tolerance.because})")
    else:
        return None
    return noise.Interval(found.low * claim.scale, found.high * claim.scale, found.test)


def _judge_direction(claim: Claim, score: Score, other: Score | None) -> Verdict:
    """A qualitative finding has no digits: DIRECTION ONLY is the most it can earn, and only against a stated test."""
    if other is None:
        return Verdict(claim, NOT_TESTABLE, f"needs a score of {claim.over} to compare with")
    gap = f"{claim.model} {number(score.value)}, {claim.over} {number(other.value)}"
    interval = noise_interval(claim, score)
    if interval is None:
        return Verdict(claim, NOT_TESTABLE, f"needs n, per-item values or seeds to tell {gap} apart", score.value)
    if interval.contains(other.value * claim.scale):
        return Verdict(claim, NOT_REPRODUCED, f"no difference beyond noise: {gap}; {interval}", score.value)
    word = DIRECTION_ONLY if claim.beats(score.value, other.value) else NOT_REPRODUCED
    return Verdict(claim, word, f"{gap}; {interval}", score.value)


def power_line(claim: Claim, score: Score) -> str:
    """What this many seeds or items can tell apart, in one line; empty where neither is known."""
    if claim.printed is None:
        return ""
    # The difference at hand, or one printed unit where there is none: nothing finer was claimed.
    delta = max(abs(score.value * claim.scale - claim.printed.value), claim.printed.unit) / claim.scale
    if score.seeds is not None and len(score.seeds) >= 3:
        return noise.power_of_seeds(score.seeds, delta)
    if claim.tolerance.basis == "binomial" and score.n is not None and 0 < score.value < claim.tolerance.whole:
        return noise.power_of_items(score.value / claim.tolerance.whole, score.n, delta / claim.tolerance.whole)
    return ""


def count_verdicts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many claims got each word, in the order of the ladder, absent words as 0."""
    counted = Counter(verdict.word for verdict in verdicts)
    return {word: counted[word] for word in LADDER}
