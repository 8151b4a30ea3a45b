"""The report of a sweep contains all trials, ranks them, and states the selection bias."""

from __future__ import annotations

import csv
import itertools
import math
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.backtesting import handler
from ktrdr.backtesting.statistics import expected_max_sharpe
from ktrdr.backtesting.sweep import COLUMNS, run
from ktrdr.errors import OperationFailed
from ktrdr.schemas import SweepParameters
from ktrdr.strategies.grid import build_backtests, validate_request
from ktrdr.work import ChildResult
from tests.recording_context import RecordingContext
from tests.thoroughness import examples
from tests.unit.backtesting.bars import random_bars, write_csv

PARAMETERS = SweepParameters(
    symbol="TEST",
    strategy_parameters={"fast": (3, 8, 15), "slow": (10, 30)},
    folds=2,
    train_bars=60,
)


def context(shared: Path, name: str, **more) -> RecordingContext:
    output = shared / name
    output.mkdir()
    return RecordingContext(f"op_{name}", shared, output, **more)


def child_results(
    shared: Path, parameters: SweepParameters, *, failing: tuple[int, ...] = ()
) -> list[ChildResult]:
    """Run the sweep's backtests, and mark some as failed."""
    children = []
    strategy = validate_request(parameters, shared / "strategies")
    for index, backtest in enumerate(build_backtests(parameters, strategy)):
        given_parameters = backtest.model_dump(mode="json")
        if index in failing:
            children.append(
                ChildResult(f"op_{index}", given_parameters, None, "the disk is <full>")
            )
        else:
            summary = handler.run(backtest, context(shared, f"child-{index}")).summary
            children.append(ChildResult(f"op_{index}", given_parameters, summary, None))
    return children


def number(child: ChildResult, key: str) -> float:
    assert child.summary is not None
    value = child.summary[key]
    assert isinstance(value, float)
    return value


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    write_csv(random_bars(300), tmp_path / "data" / "TEST" / "1d.csv")
    return tmp_path


def test_the_best_trial_is_named_and_a_failed_one_is_listed_with_its_error(
    shared: Path,
) -> None:
    children = child_results(shared, PARAMETERS, failing=(2,))
    work = context(shared, "out", child_results=children)
    summary = run(PARAMETERS, work).summary
    ratios = {child.operation_id: number(child, "sharpe") for child in children if child.summary}
    best = max(ratios, key=lambda name: ratios[name])
    assert (summary["best_operation"], summary["best"]) == (best, ratios[best])
    assert (summary["parts"], summary["completed"], summary["failed"]) == (5, 4, 1)
    assert summary["expected_best_of_luck"] == expected_max_sharpe(list(ratios.values()))
    assert summary["benchmark"] == number(children[0], "benchmark_sharpe")
    with (work.output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["fast"], row["slow"]) for row in rows] == [
        ("3", "10"),
        ("3", "30"),
        ("8", "10"),
        ("8", "30"),
        ("15", "30"),
    ]
    assert [row["error"] for row in rows] == ["", "", "the disk is <full>", "", ""]
    for child, row in zip(children, rows, strict=True):
        if child.summary:
            assert [row[name] for name in COLUMNS] == [str(child.summary[name]) for name in COLUMNS]
    page = (work.output / "report.html").read_text()
    assert "the disk is &lt;full&gt;" in page
    assert "is partly luck" in page
    assert "<script" not in page


def test_the_best_trial_is_chosen_by_the_requested_metric(shared: Path) -> None:
    children = child_results(shared, PARAMETERS)
    for metric in ("sortino", "cagr", "total_return", "max_drawdown"):
        # The backtests are the same for every metric.
        parameters = PARAMETERS.model_copy(update={"metric": metric})
        summary = run(parameters, context(shared, metric, child_results=children)).summary
        assert summary["best"] == max(number(child, metric) for child in children), metric


def test_the_same_trials_give_the_same_bytes(shared: Path) -> None:
    children = child_results(shared, PARAMETERS)
    pages = []
    for name in ("a", "b"):
        work = context(shared, name, child_results=children)
        run(PARAMETERS, work)
        pages.append([(work.output / each).read_bytes() for each in ("report.html", "results.csv")])
    assert pages[0] == pages[1]


def test_a_sweep_without_completed_backtests_fails_with_the_first_error(shared: Path) -> None:
    children = child_results(shared, PARAMETERS, failing=tuple(range(5)))
    with pytest.raises(
        OperationFailed, match="none of the sweep's 5 backtests completed; the first error"
    ):
        run(PARAMETERS, context(shared, "out", child_results=children))
    with pytest.raises(OperationFailed, match="none of the sweep's 0 backtests completed"):
        run(PARAMETERS, context(shared, "none"))


def summary_with(value: float | None):
    names = ("sharpe", "sortino", "cagr", "total_return", "max_drawdown")
    dates = {"traded_from": "2001-01-01", "traded_to": "2002-01-01"}
    held = {f"benchmark_{name}": 0.1 for name in ("sharpe", "sortino", "cagr", "return")}
    return dict.fromkeys(names, value) | dates | held


NUMBERS = st.one_of(st.none(), st.floats(-5, 5))
SPANS = st.tuples(*[st.integers(1, 9)] * 4).filter(lambda spans: math.prod(spans) <= 300)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPANS, st.data())
def test_any_number_of_parameters_and_any_values_give_a_report(spans, data) -> None:
    children = []
    for number, values in enumerate(itertools.product(*map(range, spans))):
        named = {f"p{index}": value for index, value in enumerate(values)}
        failed = number and data.draw(st.booleans())
        summary = None if failed else summary_with(data.draw(NUMBERS))
        children.append(ChildResult(f"op_{number}", {"strategy_parameters": named}, summary, None))
    with tempfile.TemporaryDirectory() as directory:
        work = RecordingContext("op_x", Path(directory), Path(directory), child_results=children)
        run(PARAMETERS, work)
        page = (Path(directory) / "report.html").read_text()
    for picture in page.split("<svg")[1:]:
        ET.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")
    assert page.count("<svg") <= 6
    assert ("<svg" in page) is any(span > 1 for span in spans)


def test_the_expected_maximum_agrees_with_simulated_trials_without_skill() -> None:
    generator = np.random.default_rng(3)
    for count in (5, 50, 500):
        drawn = generator.normal(0, 0.7, (4000, count))
        expected = np.mean([expected_max_sharpe(row.tolist()) for row in drawn[:300]])
        assert drawn.max(axis=1).mean() == pytest.approx(expected, rel=0.06)


def test_the_expected_maximum_needs_two_trials_and_their_variance() -> None:
    assert expected_max_sharpe([]) is None
    assert expected_max_sharpe([1.0]) is None
    assert expected_max_sharpe([1.0, 1.0, 1.0]) == 0
