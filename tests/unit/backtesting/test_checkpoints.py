"""Checkpoints are restored if they fit, and ignored otherwise."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.backtesting.checkpoints import checkpoint_state, choices_from_checkpoint
from ktrdr.backtesting.walkforward import ParameterChoice, plan_folds
from ktrdr.work import Checkpoint

FOLDS = plan_folds(400, folds=4, train_bars=100)
GRID = [{"fast": 3, "slow": 15}, {"fast": 8, "slow": 15}]
MADE_FROM = {"data": "abc", "code": {"version": "1", "commit": "x"}}
CHOICES = [ParameterChoice(GRID[0], 0.5), ParameterChoice(GRID[1], -1.0)]
# The format in which checkpoints are stored.
STATE: dict[str, Any] = {
    "made_from": MADE_FROM,
    "choices": [
        {"parameters": {"fast": 3, "slow": 15}, "sharpe": 0.5},
        {"parameters": {"fast": 8, "slow": 15}, "sharpe": -1.0},
    ],
}


def resume(state, step: int = 2):
    return choices_from_checkpoint(Checkpoint(step, state, None), MADE_FROM, FOLDS, GRID)


def test_choices_are_restored() -> None:
    assert resume(STATE) == CHOICES
    assert choices_from_checkpoint(None, MADE_FROM, FOLDS, GRID) == []


UNUSABLE = {
    "of release 0.1.0": {"data_hash": "abc", "choices": [{"fast": 3, "slow": 15, "sharpe": 0.5}]},
    "empty": {},
    "of other data": {**STATE, "made_from": {**MADE_FROM, "data": "other"}},
    "of other code": {**STATE, "made_from": {**MADE_FROM, "code": {}}},
    "one choice too few": {**STATE, "choices": STATE["choices"][:1]},
    "not of this grid": {
        **STATE,
        "choices": [*STATE["choices"][:1], {"parameters": {}, "sharpe": 1.0}],
    },
    "no number": {
        **STATE,
        "choices": [*STATE["choices"][:1], {**STATE["choices"][1], "sharpe": "x"}],
    },
    "no list": {**STATE, "choices": "two"},
    "no choice": {**STATE, "choices": [None, 7]},
}


@pytest.mark.parametrize("state", UNUSABLE.values(), ids=UNUSABLE)
def test_a_checkpoint_that_does_not_fit_is_ignored_with_a_warning(state, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert resume(state) == []
    assert "starting over: the checkpoint" in caplog.text


def test_a_checkpoint_with_more_folds_than_planned_is_ignored() -> None:
    many = {**STATE, "choices": STATE["choices"] * 3}
    assert resume(many, step=6) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["made_from", "choices"]), JSON), st.integers(0, 5))
def test_no_checkpoint_makes_a_resumed_run_fail(changes, step: int) -> None:
    choices = resume({**STATE, **changes}, step)
    assert choices == [] or (choices == CHOICES and step == 2)


def test_the_state_keeps_its_format() -> None:
    assert json.loads(json.dumps(checkpoint_state(CHOICES, MADE_FROM))) == STATE
