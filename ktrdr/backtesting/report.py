"""HTML report of a backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ktrdr.backtesting.results import BacktestResult, format_combination
from ktrdr.backtesting.statistics import Statistics, drawdowns
from ktrdr.reporting.charts import Line, Marker, line_chart
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
from ktrdr.strategies.document import ComponentTemplate, ParameterReference

MAX_TRADES: Final = 200
MAX_MARKERS: Final = 160


def write_report(result: BacktestResult, path: Path) -> None:
    """Write the report. Equal results give equal bytes."""
    parameters, bars, strategy = result.parameters, result.bars, result.strategy
    times, count = bars.times[result.start :], len(result.folds)
    folds = "1 fold" if count == 1 else f"{count} folds"
    subtitle = (
        f"{strategy.name}, walk-forward over {folds}, "
        f"{times[0]:%d %B %Y} to {times[-1]:%d %B %Y}, {len(times):,} {bars.timeframe} bars"
    )
    description = [paragraph(strategy.description)] if strategy.description else []
    parts = [
        card_row(_key_figures(result.statistics, result.benchmark_statistics)),
        section("Strategy", *description, _strategy(result)),
        section("Equity", _equity(result), _drawdown(result)),
        section("Trades", _prices(result), _trades(result)),
        section("Folds", _folds(result)),
        section("Comparison with buy and hold", _comparison(result)),
        section("Provenance", _provenance(result)),
    ]
    html = render_page(f"Backtest of {parameters.symbol}", subtitle, parts)
    path.write_text(html, encoding="utf-8")


def _key_figures(strategy: Statistics, benchmark: Statistics) -> list[Card]:
    total_return, benchmark_return = strategy.total_return, benchmark.total_return
    return [
        Card("total return", format_percent(total_return), gain_tone(total_return)),
        Card("buy and hold", format_percent(benchmark_return), gain_tone(benchmark_return)),
        Card("CAGR", format_percent(strategy.cagr), gain_tone(strategy.cagr)),
        Card("Sharpe ratio", format_number(strategy.sharpe)),
        Card("maximum drawdown", format_percent(strategy.max_drawdown), "bad"),
        Card("time in market", format_percent(strategy.exposure, 1)),
        Card("trades", f"{strategy.trades}"),
        Card("costs paid", format_number(strategy.total_costs, 0)),
    ]


def _strategy(result: BacktestResult) -> str:
    strategy = result.strategy
    names = {"entry": "Entry", "exit": "Exit", "constraint": "Constraint"}
    rows = [
        (name, strategy.source_text[key])
        for key, name in names.items()
        if key in strategy.source_text
    ]
    rows += [(name, _component(template)) for name, template in strategy.indicators.items()]
    for name in strategy.parameters:
        values = sorted({combination[name] for combination in result.combinations})
        note = ", one of which is chosen for each fold" if len(values) > 1 else ""
        rows.append((name, ", ".join(f"{value:g}" for value in values) + note))
    return definition_list([*rows, ("Sizing", _component(strategy.sizing))])


def _component(template: ComponentTemplate) -> str:
    arguments = ", ".join(
        f"{name} {value.parameter if isinstance(value, ParameterReference) else value}"
        for name, value in template.arguments
    )
    kind = template.kind.replace("_", " ")
    return f"{kind}: {arguments}" if arguments else kind


def _month_labels(result: BacktestResult) -> list[str]:
    return [f"{time:%b %Y}" for time in result.bars.times[result.start :]]


def _equity(result: BacktestResult) -> str:
    note = (
        " Each band is a fold, whose parameters were chosen on the bars before it."
        if len(result.combinations) > 1
        else " Each band is a fold."
    )
    return line_chart(
        [
            Line("buy and hold", result.benchmark.equity.tolist(), "grey", is_thin=True),
            Line("strategy", result.simulation.equity.tolist(), "blue"),
        ],
        _month_labels(result),
        format_value=lambda value: format_number(value, 0),
        bands=[fold.test_start - result.start for fold in result.folds],
        caption=f"Equity at each close, after costs.{note}",
    )


def _drawdown(result: BacktestResult) -> str:
    values = drawdowns(result.simulation.equity, result.parameters.initial_capital)
    return line_chart(
        [Line("", values.tolist(), "red", is_filled=True)],
        _month_labels(result),
        height=170,
        format_value=lambda value: format_percent(value, 0),
        caption="Drawdown: the distance below the highest equity so far. Longest time below a "
        f"peak: {result.statistics.max_drawdown_bars:,} bars.",
    )


def _prices(result: BacktestResult) -> str:
    trades = result.simulation.trades
    closes = result.bars.close[result.start :].tolist()
    markers = [Marker(trade.entry_bar, closes[trade.entry_bar], is_up=True) for trade in trades]
    markers += [
        Marker(trade.exit_bar, closes[trade.exit_bar], is_up=False)
        for trade in trades
        if trade.is_closed
    ]
    note = ", with purchases (green) and sales (red)."
    if len(markers) > MAX_MARKERS:
        markers, note = [], ". There are too many trades to mark."
    return line_chart(
        [Line("", closes, "grey", is_thin=True)],
        _month_labels(result),
        height=240,
        format_value=lambda value: format_number(value, 0),
        markers=markers,
        caption=f"{result.parameters.symbol}, closes{note}",
    )


def _trades(result: BacktestResult) -> str:
    times, trades = result.bars.times[result.start :], result.simulation.trades
    rows = [
        (
            f"{times[trade.entry_bar]:%Y-%m-%d}",
            f"{times[trade.exit_bar]:%Y-%m-%d}" if trade.is_closed else "open",
            format_number(trade.entry_price),
            format_number(trade.exit_price),
            format_number(trade.quantity),
            format_number(trade.profit),
            format_percent(trade.profit / trade.cost_basis),
        )
        for trade in trades[-MAX_TRADES:]
    ]
    header = ("bought", "sold", "entry price", "exit price", "quantity", "profit", "return")
    excerpt = "" if len(trades) <= MAX_TRADES else f" Last {MAX_TRADES} of {len(trades)} trades."
    hit_rate = format_percent(result.statistics.hit_rate, 0)
    note = f"{hit_rate} of the closed trades made a profit after costs.{excerpt}"
    return table(header, rows, text_columns=2) + paragraph(note)


def _folds(result: BacktestResult) -> str:
    times = result.bars.times
    rows = [
        (
            f"{fold.number}",
            f"{times[fold.train_start]:%Y-%m-%d}",
            f"{times[fold.test_start]:%Y-%m-%d}",
            f"{times[fold.test_end - 1]:%Y-%m-%d}",
            format_combination(choice.parameters),
            format_number(choice.sharpe),
        )
        for fold, choice in zip(result.folds, result.choices, strict=True)
    ]
    header = ("fold", "trained from", "traded from", "to", "parameters", "Sharpe in training")
    return table(header, rows)


def _comparison(result: BacktestResult) -> str:
    columns = (result.statistics, result.benchmark_statistics)
    rows = [
        ("CAGR", *(format_percent(column.cagr) for column in columns)),
        ("volatility", *(format_percent(column.volatility) for column in columns)),
        ("Sharpe ratio", *(format_number(column.sharpe) for column in columns)),
        ("Sortino ratio", *(format_number(column.sortino) for column in columns)),
        ("maximum drawdown", *(format_percent(column.max_drawdown) for column in columns)),
        ("turnover a year", *(format_number(column.turnover) for column in columns)),
        ("final equity", *(format_number(column.final_equity) for column in columns)),
    ]
    return table(("", "strategy", "buy and hold"), rows)


def _provenance(result: BacktestResult) -> str:
    parameters = result.parameters
    models = [(f"Model {name}, SHA-256", sha256) for name, sha256 in result.models.items()]
    return definition_list(
        [
            ("Training bars", f"{parameters.train_bars:,}"),
            ("Initial capital", format_number(parameters.initial_capital)),
            ("Commission", format_percent(result.costs.commission, 3)),
            ("Slippage", format_percent(result.costs.slippage, 3)),
            ("Execution", "decided at a close, traded at the next close"),
            ("Data, SHA-256", result.bars.data_hash),
            ("Strategy, SHA-256", result.strategy.content_hash),
            *models,
            *software_rows("bt", "numpy", "pandas"),
        ]
    )
