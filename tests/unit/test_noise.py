"""Student's t, intervals, power and the reference band against known values and their own definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import noise
from lib.errors import ConfigError

# Tables of Student's distribution (one-sided probabilities), as printed in any statistics text.
QUANTILES = [
    (0.95, 1, 6.314),
    (0.95, 4, 2.132),
    (0.95, 8, 1.860),
    (0.975, 1, 12.706),
    (0.975, 2, 4.303),
    (0.975, 5, 2.571),
    (0.975, 9, 2.262),
    (0.975, 30, 2.042),
    (0.99, 7, 2.998),
    (0.995, 120, 2.617),
]


@pytest.mark.parametrize(("probability", "dof", "expected"), QUANTILES)
def test_quantiles_of_t_are_the_tabulated_ones(probability, dof, expected):
    assert round(noise.student_t_quantile(probability, dof), 3) == expected


@given(st.floats(0.001, 0.999), st.integers(1, 60))
def test_the_quantile_inverts_the_distribution_and_is_symmetric(probability, dof):
    t = noise.student_t_quantile(probability, dof)
    assert noise.student_t_cdf(t, dof) == pytest.approx(probability, abs=1e-9)
    assert noise.student_t_quantile(1 - probability, dof) == pytest.approx(-t, abs=1e-6)


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 7, 8])
def test_the_distribution_is_the_integral_of_its_density(dof):
    scale = math.gamma((dof + 1) / 2) / (math.sqrt(dof * math.pi) * math.gamma(dof / 2))
    width, steps = 1.7, 4000
    heights = [scale * (1 + (width * i / steps) ** 2 / dof) ** (-(dof + 1) / 2) for i in range(steps + 1)]
    integral = width / steps * (sum(heights) - (heights[0] + heights[-1]) / 2)
    assert noise.student_t_cdf(width, dof) == pytest.approx(0.5 + integral, abs=1e-6)


def test_no_degree_of_freedom_is_an_error():
    with pytest.raises(ConfigError) as error:
        noise.student_t_cdf(1.0, 0)
    assert str(error.value) == "Student's t needs at least 1 degree of freedom, got 0; give at least two values"


def test_a_quantile_outside_0_and_1_is_an_error():
    with pytest.raises(ConfigError) as error:
        noise.student_t_quantile(1.0, 3)
    assert str(error.value) == "a quantile is asked at a probability between 0 and 1, got 1.0"


def test_wilson_interval_of_a_known_case():
    found = noise.wilson_interval(0.1, 100)  # 10 of 100: 0.0552 to 0.1744 in the literature
    assert (round(found.low, 4), round(found.high, 4)) == (0.0552, 0.1744)
    assert found.test == "binomial 95 % interval over n = 100 items"


def test_the_bootstrap_is_as_wide_as_the_normal_theory_says_and_repeats_with_its_seed():
    items = [0.0, 1.0] * 200
    found = noise.bootstrap_interval(items, seed=3)
    half = 1.96 * 0.5 / math.sqrt(400)
    assert found.low == pytest.approx(0.5 - half, abs=0.006)
    assert found.high == pytest.approx(0.5 + half, abs=0.006)
    assert found == noise.bootstrap_interval(items, seed=3)


def test_a_prediction_interval_is_wider_than_the_spread_of_the_runs():
    found = noise.prediction_interval([0.40, 0.41, 0.42])
    assert found.high - 0.41 == pytest.approx(4.3027 * 0.01 * math.sqrt(4 / 3), rel=1e-4)


def test_items_needed_and_the_smallest_difference_are_each_others_inverse():
    n = noise.items_needed(0.4, 0.02)
    assert noise.smallest_difference(0.4, n) == pytest.approx(0.02, rel=1e-3)
    assert n == 9419  # 2 (1.95996 + 0.84162)^2 0.24 / 0.0004


def test_power_lines_say_what_the_numbers_at_hand_can_tell():
    assert noise.power_of_items(0.4, 10_000, 0.01) == "10,000 items tell 0.0194 apart; telling 0.01 takes 37,675"
    assert noise.power_of_seeds([0.70, 0.71, 0.72], 0.005) == "runs scatter by 0.01; telling 0.005 takes 63 runs per side"
    assert noise.power_of_seeds([0.7, 0.7, 0.7], 0.005) == ""


BAND = noise.Band((0.70, 0.71, 0.72, 0.73, 0.79))


def test_the_band_rests_on_the_olympic_mean_and_the_spread_of_all_values():
    assert BAND.mean == pytest.approx(0.72)
    assert BAND.deviation == pytest.approx(0.0353553, rel=1e-4)
    low, high = BAND.limits()
    half = 2.1318468 * 0.0353553 * math.sqrt(1 + 1 / 5)
    assert (low, high) == pytest.approx((0.72 - half, 0.72 + half), rel=1e-5)


def test_the_limit_of_the_band_is_where_the_t_test_stops_rejecting():
    low, _ = BAND.limits(3)
    t = (BAND.mean - low) / (BAND.deviation * math.sqrt(1 / 3 + 1 / 5))
    assert 1 - noise.student_t_cdf(t, 6) == pytest.approx(0.05, abs=1e-9)


def test_a_run_is_below_inside_or_above_its_band():
    assert [BAND.place(value) for value in (0.5, 0.72, 0.95, float("nan"))] == ["below", "inside", "above", "below"]
    assert BAND.place(0.66) == "inside"
    assert BAND.place(0.66, runs=20) == "below"


def test_a_band_of_equal_values_holds_that_value_and_no_other():
    band = noise.Band((1.0,) * 5)
    assert [band.place(value) for value in (0.999, 1.0, 1.001)] == ["below", "inside", "above"]


@given(st.lists(st.floats(0, 1), min_size=5, max_size=9))
def test_the_mean_of_a_band_is_always_inside_it(values):
    band = noise.Band(tuple(values))
    assert band.place(band.mean) == "inside"


def test_too_few_runs_and_runs_that_did_not_converge_are_refused():
    with pytest.raises(ConfigError) as error:
        noise.Band((0.1, 0.2, 0.3, 0.4))
    assert str(error.value) == "a reference band needs at least 5 runs, got 4; record more seeds"
    with pytest.raises(ConfigError) as error:
        noise.Band((0.1, 0.2, 0.3, 0.4, float("nan")))
    assert str(error.value) == "a reference run did not converge: [0.1, 0.2, 0.3, 0.4, nan]; record that seed again"
