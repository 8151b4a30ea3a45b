"""A training's report."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ktrdr.reporting.charts import Line, line_chart, matrix_chart
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

if TYPE_CHECKING:
    from ktrdr.training.handler import Outcome


def write_report(outcome: Outcome, path: Path) -> None:
    """Writes the page; the same outcome gives the same bytes."""
    parameters = outcome.parameters
    subtitle = (
        f"Will the close {parameters.horizon_bars} bars later be higher? Learnt from "
        f"{len(outcome.split.train):,} bars, judged on the {len(outcome.split.test):,} after them"
    )
    parts = [
        cards(_headline(outcome)),
        paragraph(_verdict(outcome)),
        section("Learning", _loss(outcome), _accuracy(outcome)),
        section("On the test", _confusion(outcome)),
        section("Features", paragraph(", ".join(outcome.samples.names))),
        section("Made from", _provenance(outcome)),
    ]
    title = f"Training of {parameters.model_name} on {parameters.symbol}"
    path.write_text(page(title, subtitle, parts), encoding="utf-8")


def _headline(outcome: Outcome) -> list[Card]:
    last = outcome.last
    edge = last.test_accuracy - outcome.baseline
    return [
        Card("accuracy on the test", percent(last.test_accuracy)),
        Card("baseline", percent(outcome.baseline)),
        Card("better than the baseline", percent(edge), tone_of(edge)),
        Card("log loss on the test", number(last.test_loss, 4)),
    ]


def _verdict(outcome: Outcome) -> str:
    better = outcome.last.test_accuracy > outcome.baseline
    found = "found something beyond it here" if better else "found nothing beyond it"
    return (
        "The baseline always says what was more frequent among the training bars. "
        f"The model {found}."
    )


def _loss(outcome: Outcome) -> str:
    epochs = outcome.epochs
    return line_chart(
        [
            Line("training", [epoch.train_loss for epoch in epochs], "grey"),
            Line("test", [epoch.test_loss for epoch in epochs], "blue"),
        ],
        [str(epoch.number) for epoch in epochs],
        height=240,
        form=lambda value: number(value, 3),
        caption="Log loss after each epoch.",
    )


def _accuracy(outcome: Outcome) -> str:
    epochs = outcome.epochs
    return line_chart(
        [
            Line("training", [epoch.train_accuracy for epoch in epochs], "grey"),
            Line("test", [epoch.test_accuracy for epoch in epochs], "blue"),
            Line("baseline", [outcome.baseline] * len(epochs), "red", thin=True),
        ],
        [str(epoch.number) for epoch in epochs],
        height=240,
        form=lambda value: percent(value, 1),
        caption="Share of right answers after each epoch.",
    )


def _confusion(outcome: Outcome) -> str:
    names = ("fell", "rose")
    cells = outcome.confusion.tolist()
    rows = [
        (f"it {name}", f"{sum(row):,}", percent(row[index] / sum(row) if sum(row) else None))
        for index, (name, row) in enumerate(zip(names, cells, strict=True))
    ]
    return matrix_chart(cells, names, across="the model said it", down="it") + table(
        ("what happened", "bars", "said so"), rows
    )


def _provenance(outcome: Outcome) -> str:
    parameters, bars, samples = outcome.parameters, outcome.bars, outcome.samples
    train, test = samples.index[outcome.split.train], samples.index[outcome.split.test]
    return definitions(
        [
            (
                "Training bars",
                f"{bars.times[train[0]]:%Y-%m-%d} to {bars.times[train[-1]]:%Y-%m-%d}",
            ),
            ("Test bars", f"{bars.times[test[0]]:%Y-%m-%d} to {bars.times[test[-1]]:%Y-%m-%d}"),
            (
                "Left out between",
                f"{parameters.horizon_bars} bars, whose labels look into the test",
            ),
            ("Hidden units", ", ".join(map(str, parameters.hidden_units))),
            ("Learning rate", f"{parameters.learning_rate:g}"),
            ("Seed", str(parameters.seed)),
            ("Data, SHA-256", bars.data_hash),
            ("Libraries", f"scikit-learn {version('scikit-learn')}, numpy {version('numpy')}"),
        ]
    )
