"""Percentiles, ratios and goals are what they say."""

from __future__ import annotations

import json
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import to_json
from benchmarks.samples import Goal, Outcome, Samples, ratio

SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=1)


@given(SECONDS, st.floats(0, 1))
def test_a_percentile_is_a_sample_that_a_share_of_all_does_not_exceed(
    seconds: list[float], share: float
) -> None:
    found = Samples(seconds).percentile(share)
    times = [second * 1000 for second in seconds]
    assert found in times
    assert sum(time <= found for time in times) >= ceil(share * len(times))


def test_figures_are_in_milliseconds_and_in_the_tables_order() -> None:
    samples = Samples([0.004, 0.001, 0.002])
    assert samples.row == ["3", "1.0", "2.0", "4.0", "4.0"]
    assert ratio(samples, Samples([0.001])) == 2


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [(1.5, False, True), (1.51, False, False), (1.5, True, True), (1.49, True, False)],
)
def test_a_goal_is_met_at_its_limit_and_not_beyond(
    measured: float, at_least: bool, met: bool
) -> None:
    assert Goal("it", 1.5, measured, "times", at_least).met is met


def test_the_json_form_says_whether_each_goal_is_met() -> None:
    outcome = Outcome("t", ("", "n"), goals=[Goal("it", 1, 2, "ms")])
    (goal,) = json.loads(to_json({"one": outcome}))["measurements"]["one"]["goals"]
    assert goal == {
        "what": "it",
        "limit": 1,
        "measured": 2,
        "unit": "ms",
        "at_least": False,
        "met": False,
    }
