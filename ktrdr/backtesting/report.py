"""A backtest's report."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ktrdr.backtesting.outcome import Outcome, shown
from ktrdr.backtesting.statistics import Statistics, drawdowns
from ktrdr.build_info import code, libraries
from ktrdr.reporting.charts import Line, Marker, line_chart
from ktrdr.reporting.page import (
    Card,
    cards,
    definitions,
    number,
    page,
    paragraph,
    percent,
    section,
    table,
    tone_of,
)
from ktrdr.strategies.document import ComponentTemplate, ParameterReference

MAX_TRADES: Final = 200
MAX_MARKERS: Final = 160
LIBRARIES: Final = ("bt", "numpy", "pandas")


def write_report(outcome: Outcome, path: Path) -> None:
    """Writes the page; the same outcome gives the same bytes."""
    parameters, bars = outcome.parameters, outcome.bars
    times = bars.times[outcome.start :]
    subtitle = (
        f"{outcome.strategy.name}, walk-forward over {_folds_in_words(outcome)}, "
        f"{times[0]:%d %B %Y} to {times[-1]:%d %B %Y}, {len(times):,} {bars.timeframe} bars"
    )
    parts = [
        cards(_headline(outcome.statistics, outcome.benchmark_statistics)),
        section("Strategy", *_description(outcome), _strategy(outcome)),
        section("Equity", _equity(outcome), _drawdown(outcome)),
        section("Trades", _prices(outcome), _trades(outcome)),
        section("Folds", _folds(outcome)),
        section("Against buying and holding", _comparison(outcome)),
        section("Made from", _provenance(outcome)),
    ]
    path.write_text(page(f"Backtest of {parameters.symbol}", subtitle, parts), encoding="utf-8")


def _headline(ours: Statistics, held: Statistics) -> list[Card]:
    return [
        Card("total return", percent(ours.total_return), tone_of(ours.total_return)),
        Card("buy and hold", percent(held.total_return), tone_of(held.total_return)),
        Card("CAGR", percent(ours.cagr), tone_of(ours.cagr)),
        Card("Sharpe ratio", number(ours.sharpe)),
        Card("maximum drawdown", percent(ours.max_drawdown), "bad"),
        Card("time in market", percent(ours.exposure, 1)),
        Card("trades", f"{ours.trades}"),
        Card("costs paid", number(ours.total_costs, 0)),
    ]


def _folds_in_words(outcome: Outcome) -> str:
    count = len(outcome.folds)
    return "1 fold" if count == 1 else f"{count} folds"


def _description(outcome: Outcome) -> list[str]:
    said = outcome.strategy.description
    return [paragraph(said)] if said else []


def _strategy(outcome: Outcome) -> str:
    strategy, chosen = outcome.strategy, outcome.combinations
    names = {"entry": "Enters", "exit": "Leaves", "constraint": "With"}
    rows = [(names[key], strategy.source_text[key]) for key in names if key in strategy.source_text]
    for name, template in strategy.indicators.items():
        rows.append((name, _template(template)))
    for name in strategy.parameters:
        values = sorted({each[name] for each in chosen})
        compete = ", one of which is chosen for each fold" if len(values) > 1 else ""
        rows.append((name, ", ".join(f"{value:g}" for value in values) + compete))
    return definitions([*rows, ("Sizing", _template(strategy.sizing))])


def _template(template: ComponentTemplate) -> str:
    given = ", ".join(
        f"{name} {value.parameter if isinstance(value, ParameterReference) else value}"
        for name, value in template.arguments
    )
    kind = template.kind.replace("_", " ")
    return f"{kind}: {given}" if given else kind


def _labels(outcome: Outcome) -> list[str]:
    return [f"{time:%b %Y}" for time in outcome.bars.times[outcome.start :]]


def _fold_starts(outcome: Outcome) -> list[int]:
    return [fold.test_start - outcome.start for fold in outcome.folds]


def _equity(outcome: Outcome) -> str:
    return line_chart(
        [
            Line("buy and hold", outcome.held.equity.tolist(), "grey", thin=True),
            Line("strategy", outcome.simulation.equity.tolist(), "blue"),
        ],
        _labels(outcome),
        form=lambda value: number(value, 0),
        bands=_fold_starts(outcome),
        caption="Equity at each close, after costs."
        + (
            " Every band is a fold, whose parameters were chosen on the bars before it."
            if len(outcome.combinations) > 1
            else " Every band is a fold."
        ),
    )


def _drawdown(outcome: Outcome) -> str:
    capital = outcome.parameters.initial_capital
    return line_chart(
        [Line("", drawdowns(outcome.simulation.equity, capital).tolist(), "red", filled=True)],
        _labels(outcome),
        height=170,
        form=lambda value: percent(value, 0),
        caption=f"Drawdown: how far below the highest equity yet. Longest time below a peak: "
        f"{outcome.statistics.max_drawdown_bars:,} bars.",
    )


def _prices(outcome: Outcome) -> str:
    trades = outcome.simulation.trades
    closes = outcome.bars.close[outcome.start :].tolist()
    markers = [Marker(trade.entry, closes[trade.entry], up=True) for trade in trades]
    markers += [
        Marker(trade.exit, closes[trade.exit], up=False) for trade in trades if trade.closed
    ]
    shown = markers if len(markers) <= MAX_MARKERS else []
    return line_chart(
        [Line("", closes, "grey", thin=True)],
        _labels(outcome),
        height=240,
        form=lambda value: number(value, 0),
        markers=shown,
        caption=f"{outcome.parameters.symbol}, closes"
        + (", with purchases (green) and sales (red)." if shown else "; too many trades to mark."),
    )


def _trades(outcome: Outcome) -> str:
    times, trades = outcome.bars.times[outcome.start :], outcome.simulation.trades
    rows = [
        (
            f"{times[trade.entry]:%Y-%m-%d}",
            f"{times[trade.exit]:%Y-%m-%d}" if trade.closed else "still held",
            number(trade.entry_price),
            number(trade.exit_price),
            number(trade.quantity),
            number(trade.profit),
            percent(trade.profit / trade.cost_basis),
        )
        for trade in trades[-MAX_TRADES:]
    ]
    header = ("bought", "sold", "at", "at", "quantity", "profit", "return")
    shown = "" if len(trades) <= MAX_TRADES else f" The last {MAX_TRADES} of {len(trades)}."
    hits = percent(outcome.statistics.hit_rate, 0)
    note = f"{hits} of the closed trades made a profit after costs.{shown}"
    return table(header, rows, text=2) + paragraph(note)


def _folds(outcome: Outcome) -> str:
    times = outcome.bars.times
    rows = [
        (
            f"{fold.number}",
            f"{times[fold.train_start]:%Y-%m-%d}",
            f"{times[fold.test_start]:%Y-%m-%d}",
            f"{times[fold.test_end - 1]:%Y-%m-%d}",
            shown(choice.parameters),
            number(choice.sharpe),
        )
        for fold, choice in zip(outcome.folds, outcome.choices, strict=True)
    ]
    header = ("fold", "trained from", "traded from", "to", "parameters", "Sharpe in training")
    return table(header, rows)


def _comparison(outcome: Outcome) -> str:
    ours, held = outcome.statistics, outcome.benchmark_statistics
    rows = [
        ("CAGR", percent(ours.cagr), percent(held.cagr)),
        ("volatility", percent(ours.volatility), percent(held.volatility)),
        ("Sharpe ratio", number(ours.sharpe), number(held.sharpe)),
        ("Sortino ratio", number(ours.sortino), number(held.sortino)),
        ("maximum drawdown", percent(ours.max_drawdown), percent(held.max_drawdown)),
        ("turnover a year", number(ours.turnover), number(held.turnover)),
        ("final equity", number(ours.final_equity), number(held.final_equity)),
    ]
    return table(("", "strategy", "buy and hold"), rows)


def _provenance(outcome: Outcome) -> str:
    parameters, made_by = outcome.parameters, code()
    models = [(f"Model {name}, SHA-256", value) for name, value in outcome.models.items()]
    used = ", ".join(f"{name} {each}" for name, each in libraries(LIBRARIES).items())
    return definitions(
        [
            ("Training bars", f"{parameters.train_bars:,}"),
            ("Initial capital", number(parameters.initial_capital)),
            ("Commission", percent(outcome.costs.commission, 3)),
            ("Slippage", percent(outcome.costs.slippage, 3)),
            ("Execution", "decided at a close, traded at the next close"),
            ("Data, SHA-256", outcome.bars.data_hash),
            ("Strategy, SHA-256", outcome.strategy.content_hash),
            *models,
            ("KTRDR", f"{made_by['version']}, commit {made_by['commit']}"),
            ("Libraries", used),
        ]
    )
