"""How far a score may move by chance: Student's t, intervals for shares and means, power, and the reference band of a profile.

Pure mathematics without scipy. The band follows MLPerf's rule for reference convergence points (ecosystem.md section 8): the mean
of the reference values without the best and the worst, the standard deviation over all of them, and a one-sided two-sample t-test
with equal variance at alpha 0.05 towards either side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy

from lib.errors import ConfigError

CONFIDENCE = 0.95  # of every two-sided interval the kit states
POWER = 0.80  # chance to see a difference that is there, the usual planning value
RESAMPLES = 2000  # bootstrap draws; the 2.5 % tails then rest on 50 draws each
REFERENCE_RUNS = 5  # the fewest seeds a band may rest on (design.md section 8)


@dataclass(frozen=True)
class Interval:
    """Where a value may lie by chance, and the test (with its n) that says so."""

    low: float
    high: float
    test: str

    def __str__(self) -> str:
        """The test and its limits, for a reason that a person reads."""
        return f"{self.test}: {self.low:.4f} to {self.high:.4f}"

    def overlaps(self, low: float, high: float) -> bool:
        """Whether any value between `low` and `high` lies inside."""
        return self.low <= high and low <= self.high

    def contains(self, value: float) -> bool:
        """Whether the value lies inside, the ends included."""
        return self.low <= value <= self.high


def student_t_cdf(t: float, dof: int) -> float:
    """P(T <= t) for Student's T with `dof` whole degrees of freedom: the finite series of Abramowitz-Stegun 26.7.3 and 26.7.4."""
    if dof < 1:
        raise ConfigError(f"Student's t needs at least 1 degree of freedom, got {dof}; give at least two values")
    theta = math.atan(t / math.sqrt(dof))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = dof % 2 == 1
    # Odd: cos + 2/3 cos^3 + 2*4/(3*5) cos^5 ...; even: 1 + 1/2 cos^2 + 1*3/(2*4) cos^4 ...
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(1 if odd else 0, dof - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    inside = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return 0.5 + inside / 2


def student_t_quantile(probability: float, dof: int) -> float:
    """The t with P(T <= t) = probability, by bisection to 1e-12 of its size; 0 < probability < 1."""
    if not 0 < probability < 1:
        raise ConfigError(f"a quantile is asked at a probability between 0 and 1, got {probability}")
    if probability < 0.5:
        return -student_t_quantile(1 - probability, dof)
    # One degree of freedom has quantiles in the hundreds: double until the probability is passed.
    high = 1.0
    while student_t_cdf(high, dof) < probability:
        high *= 2
    return bisect(lambda t: student_t_cdf(t, dof) - probability, 0.0, high)


def bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function crosses zero between `low` and `high`."""
    for _ in range(200):
        middle = (low + high) / 2
        if high - low <= 1e-12 * max(1.0, abs(middle)):
            break
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def wilson_interval(share: float, n: int) -> Interval:
    """95 % interval of a share counted over n independent items (Wilson's score interval)."""
    # Wilson's, not the textbook normal interval, which shrinks to nothing at shares of 0 and 1.
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(centre - half, centre + half, f"binomial 95 % interval over n = {n:,} items")


def bootstrap_interval(items: Sequence[float], *, seed: int) -> Interval:
    """95 % percentile interval of the mean when the items are drawn anew with replacement."""
    values = numpy.asarray(items, dtype=float)
    generator = numpy.random.default_rng(seed)
    means = [float(generator.choice(values, values.size).mean()) for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = numpy.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high), f"bootstrap 95 % interval over n = {values.size:,} items ({RESAMPLES:,} draws)")


def prediction_interval(runs: Sequence[float]) -> Interval:
    """95 % interval for one more run like these (Student's t): where the authors' single run may lie if it is one of ours."""
    n = len(runs)
    # The 1 stands for the scatter of the one run predicted, 1/n for the uncertainty of our mean.
    t = student_t_quantile((1 + CONFIDENCE) / 2, n - 1)
    half = t * stdev(runs) * math.sqrt(1 + 1 / n)
    return Interval(fmean(runs) - half, fmean(runs) + half, f"t prediction interval from n = {n} seeds")


def items_needed(share: float, delta: float) -> int:
    """Items per side that tell `share` from `share + delta` (5 % two-sided, 80 % power, normal approximation)."""
    return math.ceil(_deviates() ** 2 * 2 * share * (1 - share) / delta**2)


def runs_needed(deviation: float, delta: float) -> int:
    """Runs per side that tell two means `delta` apart when single runs scatter by `deviation`; at least two."""
    return max(2, math.ceil(_deviates() ** 2 * 2 * (deviation / delta) ** 2))


def smallest_difference(share: float, n: int) -> float:
    """The smallest difference of two shares that n items per side can tell apart (5 % two-sided, 80 % power)."""
    return _deviates() * math.sqrt(2 * share * (1 - share) / n)


def power_of_items(share: float, n: int, delta: float) -> str:
    """What n items can tell apart and how many would tell `delta`, in one line."""
    needed = items_needed(share, delta)
    return f"{n:,} items tell {smallest_difference(share, n):.4f} apart; telling {delta:.2g} takes {needed:,}"


def power_of_seeds(runs: Sequence[float], delta: float) -> str:
    """How many runs per side would tell `delta`, given how these scatter, in one line; empty where they do not scatter."""
    deviation = stdev(runs)
    if deviation == 0:
        return ""
    return f"runs scatter by {deviation:.2g}; telling {delta:.2g} takes {runs_needed(deviation, delta)} runs per side"


def _deviates() -> float:
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Band:
    """Reference values of one score over seeds, and the band a run's mean has to fall into."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ConfigError for fewer than five values or one that is not finite."""
        if len(self.values) < REFERENCE_RUNS:
            raise ConfigError(f"a reference band needs at least {REFERENCE_RUNS} runs, got {len(self.values)}; record more seeds")
        if not all(math.isfinite(value) for value in self.values):
            raise ConfigError(f"a reference run did not converge: {list(self.values)}; record that seed again")

    @property
    def mean(self) -> float:
        """The olympic mean: without the best and the worst value."""
        return fmean(sorted(self.values)[1:-1])

    @property
    def deviation(self) -> float:
        """The sample standard deviation over all values."""
        return stdev(self.values)

    def limits(self, runs: int = 1) -> tuple[float, float]:
        """The smallest and the largest mean of `runs` runs that the one-sided test does not reject.

        The statistic is (mean - reference) / (s sqrt(1/runs + 1/references)) with runs + references - 2 degrees of freedom, so
        the limits that MLPerf finds by bisection are available in closed form.
        """
        references = len(self.values)
        t = student_t_quantile(CONFIDENCE, runs + references - 2)
        half = t * self.deviation * math.sqrt(1 / runs + 1 / references)
        return self.mean - half, self.mean + half

    def place(self, value: float, runs: int = 1) -> str:
        """ "below", "inside" or "above" the band; values equal to a limit, up to rounding of floats, are inside."""
        low, high = self.limits(runs)
        if value < low and not math.isclose(value, low, rel_tol=1e-9, abs_tol=1e-12):
            return "below"
        if value > high and not math.isclose(value, high, rel_tol=1e-9, abs_tol=1e-12):
            return "above"
        return "inside" if math.isfinite(value) else "below"
