"""HTML report of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Final

from ktrdr.backtesting.results import format_combination
from ktrdr.backtesting.sweep_results import Trial, Trials
from ktrdr.reporting.heatmap import Axis, Cell, ColourScale, heat_map
from ktrdr.reporting.page import (
    Card,
    card_row,
    definition_list,
    format_number,
    format_percent,
    gain_tone,
    paragraph,
    render_page,
    section,
    software_rows,
    table,
)

MAX_RANKED: Final = 25
MAX_FAILED: Final = 50
# A reader can compare so many maps. With more, one map shows the best of the other parameters.
MAX_MAPS: Final = 6
METRIC_NAMES: Final = {
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "cagr": "CAGR",
    "total_return": "total return",
    "max_drawdown": "maximum drawdown",
}
RATIOS: Final = ("sharpe", "sortino")
LEGEND: Final = (
    "Blue is above zero, red below, and a stronger colour is farther from zero. A frame marks the "
    "best trial. A dot is a combination without a trial."
)


def write_report(trials: Trials, path: Path) -> None:
    """Write the report. Equal trials give equal bytes."""
    parameters, best = trials.parameters, trials.ranked()[0]
    subtitle = (
        f"{parameters.strategy}: {len(trials.trials):,} combinations of its parameters, each "
        f"backtested from {best.summary['traded_from']} to {best.summary['traded_to']}"
    )
    parts = [
        card_row(_key_figures(trials, best)),
        section("Selection bias", paragraph(_selection_bias(trials, best))),
        *_maps(trials),
        section("Ranking", _ranking(trials)),
        *_failures(trials),
        section("Provenance", _provenance(trials, best)),
    ]
    title = f"Sweep of {parameters.strategy} on {parameters.symbol}"
    path.write_text(render_page(title, subtitle, parts), encoding="utf-8")


def _metric_format(trials: Trials) -> Callable[[float | None], str]:
    if trials.parameters.metric in RATIOS:
        return format_number
    return lambda value: format_percent(value, 1)


def _key_figures(trials: Trials, best: Trial) -> list[Card]:
    format_metric, name = _metric_format(trials), METRIC_NAMES[trials.parameters.metric]
    value, benchmark = trials.metric_of(best), trials.benchmark_metric()
    return [
        Card(f"best {name}", format_metric(value), gain_tone(value)),
        Card("buy and hold", format_metric(benchmark), gain_tone(benchmark)),
        Card("best Sharpe ratio by chance", format_number(trials.expected_max_sharpe())),
        Card("completed backtests", f"{len(trials.completed):,} of {len(trials.trials):,}"),
    ]


def _selection_bias(trials: Trials, best: Trial) -> str:
    ratios, expected = trials.sharpe_ratios(), trials.expected_max_sharpe()
    if expected is None:
        return "With fewer than two trials there is no selection bias."
    maximum = max(ratios)
    verdict = (
        "This is no more than chance alone would produce."
        if maximum <= expected
        else "This is more than chance alone would produce, if there were no other trials."
    )
    benchmark = best.number("benchmark_sharpe")
    if benchmark is not None and maximum <= benchmark:
        verdict += f" No trial beats buy and hold, which has {format_number(benchmark)}."
    return (
        f"The best of the {len(ratios):,} trials with a Sharpe ratio is partly luck. If no trial "
        "had any skill and the ratios varied as much as these do, the best would still be expected "
        f"to have {format_number(expected)} (Bailey and López de Prado, The Deflated Sharpe Ratio, "
        f"2014). The best here has {format_number(maximum)}. {verdict} Prefer a region of the map "
        "that is good throughout to a single cell, and test your choice on bars that no sweep has "
        "used."
    )


def _maps(trials: Trials) -> list[str]:
    """Return maps of the metric over the two parameters with most values, one for each of the rest.

    With too many maps, one map shows the best over all other parameters.
    """
    names = trials.parameter_names()
    varying = [name for name in names if len(trials.values_of(name)) > 1]
    if not varying:
        return []
    by_size = sorted(varying, key=lambda name: -len(trials.values_of(name)))
    axes = sorted(by_size[:2], key=names.index)
    others = [name for name in varying if name not in axes]
    groups = [
        dict(zip(others, values, strict=True))
        for values in product(*(trials.values_of(name) for name in others))
    ]
    metrics = [trials.metric_of(trial) for trial in trials.completed]
    colours = ColourScale.for_values([value for value in metrics if value is not None])
    name = METRIC_NAMES[trials.parameters.metric]
    heading = f"{name[0].upper()}{name[1:]}"
    if len(groups) > MAX_MAPS:
        note = f"{LEGEND} Each cell shows the best over {', '.join(others)}."
        return [section(heading, paragraph(note), _map(trials, axes, trials.trials, colours, ""))]
    maps = []
    for group in groups:
        members = [trial for trial in trials.trials if group.items() <= trial.values.items()]
        if members:
            title = format_combination(group) if others else ""
            maps.append(_map(trials, axes, members, colours, title))
    return [section(heading, paragraph(LEGEND), *maps)]


def _map(
    trials: Trials,
    axes: Sequence[str],
    members: Sequence[Trial],
    colours: ColourScale,
    title: str,
) -> str:
    down, across = axes if len(axes) == 2 else ("", axes[0])
    best, format_metric = trials.ranked()[0], _metric_format(trials)
    cells: dict[tuple[float, float], Cell] = {}
    for trial in members:
        position = (float(trial.values[across]), float(trial.values.get(down, 0)))
        value, other = trials.metric_of(trial), cells.get(position)
        is_better = value is not None and (
            other is None or other.value is None or value > other.value
        )
        if other is None or is_better:
            metric = f"{trials.parameters.metric} {format_metric(value)}"
            cells[position] = Cell(
                value,
                f"{format_combination(trial.values)}: {trial.error or metric}",
                "failed" if trial.error else "n/a",
                is_marked=trial is best,
            )
    return heat_map(
        Axis(across, list(map(float, trials.values_of(across)))),
        Axis(down, list(map(float, trials.values_of(down))) if down else [0.0]),
        cells,
        colours,
        format_value=format_metric,
        title=title,
    )


def _ranking(trials: Trials) -> str:
    names, ranked = trials.parameter_names(), trials.ranked()
    rows = [
        (f"{rank}", *(f"{trial.values[name]:g}" for name in names), *_statistics(trial))
        for rank, trial in enumerate(ranked[:MAX_RANKED], start=1)
    ]
    label = ["buy and hold", *[""] * (len(names) - 1)] if names else []
    rows.append(("", *label, *_benchmark_statistics(ranked[0])))
    statistics = ("Sharpe", "Sortino", "CAGR", "volatility", "drawdown", "in market", "trades")
    note = f"Ordered by {METRIC_NAMES[trials.parameters.metric]}."
    if len(ranked) > MAX_RANKED:
        note = f"The best {MAX_RANKED} of {len(ranked):,} trials. results.csv contains all. {note}"
    return table(("", *names, *statistics), rows) + paragraph(note)


def _statistics(trial: Trial) -> tuple[str, ...]:
    trades = trial.number("trades")
    return (
        format_number(trial.number("sharpe")),
        format_number(trial.number("sortino")),
        format_percent(trial.number("cagr")),
        format_percent(trial.number("volatility")),
        format_percent(trial.number("max_drawdown"), 1),
        format_percent(trial.number("exposure"), 0),
        "n/a" if trades is None else f"{trades:,.0f}",
    )


def _benchmark_statistics(trial: Trial) -> tuple[str, ...]:
    return (
        format_number(trial.number("benchmark_sharpe")),
        format_number(trial.number("benchmark_sortino")),
        format_percent(trial.number("benchmark_cagr")),
        "",
        format_percent(trial.number("benchmark_max_drawdown"), 1),
        "",
        "",
    )


def _failures(trials: Trials) -> list[str]:
    failed = trials.failed
    if not failed:
        return []
    rows = [
        (format_combination(trial.values), trial.error or "", trial.operation_id)
        for trial in failed[:MAX_FAILED]
    ]
    note = f"{len(failed):,} of {len(trials.trials):,} backtests failed."
    header = ("parameters", "error", "operation")
    return [section("Failed backtests", paragraph(note), table(header, rows, text_columns=3))]


def _provenance(trials: Trials, best: Trial) -> str:
    values = [
        (name, ", ".join(f"{value:g}" for value in trials.values_of(name)))
        for name in trials.parameter_names()
    ]

    def shared_hash(key: str) -> str:
        if trials.has_differing(key):
            return "several: it changed while the sweep ran"
        return str(best.summary.get(key))

    return definition_list(
        [
            *values,
            ("Best operation", best.operation_id),
            ("Training bars", f"{trials.parameters.train_bars:,}, not traded"),
            ("Data, SHA-256", shared_hash("data_hash")),
            ("Strategy, SHA-256", shared_hash("strategy_hash")),
            *software_rows(),
        ]
    )
