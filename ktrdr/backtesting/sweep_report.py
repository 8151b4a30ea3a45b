"""A sweep's report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Final

from ktrdr.backtesting.outcome import shown
from ktrdr.backtesting.tries import Tries, Try
from ktrdr.build_info import code_version
from ktrdr.reporting.heatmap import Axis, Cell, Shades, heat_map
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

MAX_RANKED: Final = 25
MAX_FAILED: Final = 50
# So many maps can be compared by eye; beyond that one shows the best of all that is left.
MAX_MAPS: Final = 6
IN_WORDS: Final = {
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "cagr": "CAGR",
    "total_return": "total return",
    "max_drawdown": "maximum drawdown",
}
RATIOS: Final = ("sharpe", "sortino")


def write_report(tries: Tries, path: Path) -> None:
    """Writes the page; the same tries give the same bytes."""
    parameters, best = tries.parameters, tries.ranked()[0]
    subtitle = (
        f"{parameters.strategy}: {len(tries.every):,} combinations of its parameters, each "
        f"backtested from {best.summary['traded_from']} to {best.summary['traded_to']}"
    )
    parts = [
        cards(_headline(tries, best)),
        section("What the best of many is worth", paragraph(_warning(tries, best))),
        *_maps(tries),
        section("Ranking", _ranking(tries)),
        *_failures(tries),
        section("Made from", _provenance(tries, best)),
    ]
    title = f"Sweep of {parameters.strategy} on {parameters.symbol}"
    path.write_text(page(title, subtitle, parts), encoding="utf-8")


def _form(tries: Tries) -> Callable[[float | None], str]:
    if tries.parameters.metric in RATIOS:
        return number
    return lambda value: percent(value, 1)


def _headline(tries: Tries, best: Try) -> list[Card]:
    form, word = _form(tries), IN_WORDS[tries.parameters.metric]
    value, held = tries.metric_of(best), tries.benchmark()
    return [
        Card(f"best {word}", form(value), tone_of(value)),
        Card("buy and hold", form(held), tone_of(held)),
        Card("Sharpe ratio by luck alone", number(tries.luck())),
        Card("backtests completed", f"{len(tries.completed):,} of {len(tries.every):,}"),
    ]


def _warning(tries: Tries, best: Try) -> str:
    ratios, luck = tries.sharpes(), tries.luck()
    if luck is None:
        return "With fewer than two tries there is nothing to be lucky with."
    top = max(ratios)
    verdict = (
        "That is no more than luck alone would be expected to find."
        if top <= luck
        else "That is more than luck alone would be expected to find, if no others were tried."
    )
    beaten = ""
    held = best.figure("benchmark_sharpe")
    if held is not None and top <= held:
        beaten = f" Nor does any of them beat buying and holding, with {number(held)}."
    return (
        f"The best of the {len(ratios):,} tries that traded is partly luck. If none of them had "
        "any skill and their Sharpe ratios were scattered as these are, the best would still be "
        f"expected to show {number(luck)} (Bailey and López de Prado, The Deflated Sharpe Ratio, "
        f"2014). The best here shows {number(top)}. {verdict}{beaten} Trust a region of the map "
        "that is good throughout more than a single cell, and judge what you choose on bars that "
        "no sweep has seen."
    )


def _maps(tries: Tries) -> list[str]:
    """The metric over the two parameters with most values, once for all values of the others."""
    varying = [name for name in tries.names() if len(tries.values_of(name)) > 1]
    if not varying:
        return []
    by_size = sorted(varying, key=lambda name: -len(tries.values_of(name)))
    axes = sorted(by_size[:2], key=tries.names().index)
    rest = [name for name in varying if name not in axes]
    places = list(product(*(tries.values_of(name) for name in rest)))
    word = IN_WORDS[tries.parameters.metric]
    shades = Shades.over(
        [value for value in map(tries.metric_of, tries.completed) if value is not None]
    )
    heading = f"{word[0].upper()}{word[1:]}"
    if len(places) > MAX_MAPS:
        note = f"{_legend()} Each cell shows the best over {', '.join(rest)}."
        return [section(heading, paragraph(note), _map(tries, axes, tries.every, shades, ""))]
    maps = []
    for place in places:
        here = dict(zip(rest, place, strict=True))
        found = [each for each in tries.every if here.items() <= each.values.items()]
        if found:
            maps.append(_map(tries, axes, found, shades, shown(here) if rest else ""))
    return [section(heading, paragraph(_legend()), *maps)]


def _legend() -> str:
    return (
        "Blue is above zero, red below, and stronger is farther from it; the frame is the best. "
        "A dot is a combination that was not tried."
    )


def _map(
    tries: Tries, axes: Sequence[str], found: Sequence[Try], shades: Shades, title: str
) -> str:
    down_name, across_name = axes if len(axes) == 2 else ("", axes[0])
    best = tries.ranked()[0]
    cells: dict[tuple[float, float], Cell] = {}
    for each in found:
        place = (float(each.values[across_name]), float(each.values.get(down_name, 0)))
        cell = _cell(tries, each, marked=each is best)
        if place not in cells or _is_better(cell, cells[place]):
            cells[place] = cell
    return heat_map(
        Axis(across_name, _values(tries, across_name)),
        Axis(down_name, _values(tries, down_name) if down_name else [0.0]),
        cells,
        shades,
        form=_form(tries),
        title=title,
    )


def _values(tries: Tries, name: str) -> list[float]:
    return [float(value) for value in tries.values_of(name)]


def _cell(tries: Tries, each: Try, *, marked: bool) -> Cell:
    value = tries.metric_of(each)
    found = each.error or f"{tries.parameters.metric} {_form(tries)(value)}"
    text = "failed" if each.error else "n/a"
    return Cell(value, f"{shown(each.values)}: {found}", text, marked)


def _is_better(one: Cell, other: Cell) -> bool:
    if one.value is None or other.value is None:
        return other.value is None and one.value is not None
    return one.value > other.value


def _ranking(tries: Tries) -> str:
    names, ranked = tries.names(), tries.ranked()
    rows = [
        (f"{place}", *_row(each, [f"{each.values[name]:g}" for name in names]))
        for place, each in enumerate(ranked[:MAX_RANKED], start=1)
    ]
    rows.append(("", *_held(ranked[0], len(names))))
    header = (
        "",
        *names,
        "Sharpe",
        "Sortino",
        "CAGR",
        "volatility",
        "drawdown",
        "in market",
        "trades",
    )
    note = (
        f"The best {MAX_RANKED} of {len(ranked):,}; results.csv has them all. "
        if len(ranked) > MAX_RANKED
        else ""
    )
    word = IN_WORDS[tries.parameters.metric]
    return table(header, rows) + paragraph(f"{note}In the order of the {word}.")


def _row(each: Try, values: Sequence[str]) -> tuple[str, ...]:
    trades = each.figure("trades")
    return (
        *values,
        number(each.figure("sharpe")),
        number(each.figure("sortino")),
        percent(each.figure("cagr")),
        percent(each.figure("volatility")),
        percent(each.figure("max_drawdown"), 1),
        percent(each.figure("exposure"), 0),
        "n/a" if trades is None else f"{trades:,.0f}",
    )


def _held(any_try: Try, width: int) -> tuple[str, ...]:
    names = ["buy and hold", *[""] * (width - 1)] if width else []
    return (
        *names,
        number(any_try.figure("benchmark_sharpe")),
        number(any_try.figure("benchmark_sortino")),
        percent(any_try.figure("benchmark_cagr")),
        "",
        percent(any_try.figure("benchmark_max_drawdown"), 1),
        "",
        "",
    )


def _failures(tries: Tries) -> list[str]:
    failed = tries.failed
    if not failed:
        return []
    rows = [
        (shown(each.values), each.error or "", each.operation_id) for each in failed[:MAX_FAILED]
    ]
    note = f"{len(failed):,} of {len(tries.every):,} backtests did not complete."
    return [
        section("What failed", paragraph(note), table(("with", "why", "operation"), rows, text=3))
    ]


def _provenance(tries: Tries, best: Try) -> str:
    parameters, made_by = tries.parameters, code_version()
    tried = [
        (name, ", ".join(f"{value:g}" for value in tries.values_of(name))) for name in tries.names()
    ]
    mixed = "several: it changed while the sweep ran"
    data = mixed if tries.differing("data_hash") else str(best.summary.get("data_hash"))
    document = mixed if tries.differing("strategy_hash") else str(best.summary.get("strategy_hash"))
    return definitions(
        [
            *tried,
            ("Best operation", best.operation_id),
            ("Training bars", f"{parameters.train_bars:,}, not traded"),
            ("Data, SHA-256", data),
            ("Strategy, SHA-256", document),
            ("KTRDR", f"{made_by['version']}, commit {made_by['commit']}"),
        ]
    )
