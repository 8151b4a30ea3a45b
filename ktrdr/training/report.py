"""A training's report."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ktrdr.build_info import code, libraries
from ktrdr.reporting.charts import Line, Marker, line_chart, matrix_chart
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
from ktrdr.training.outcome import Outcome
from ktrdr.training.split import Positions

LIBRARIES: Final = ("scikit-learn", "numpy")


def write_report(outcome: Outcome, path: Path) -> None:
    """Writes the page; the same outcome gives the same bytes."""
    parameters = outcome.parameters
    subtitle = (
        f"Will the close {parameters.horizon_bars} bars later be higher? Learnt from "
        f"{len(outcome.split.train):,} bars, stopped by the {len(outcome.split.validation):,} "
        f"after them, judged on the last {len(outcome.split.test):,}"
    )
    parts = [
        cards(_headline(outcome)),
        paragraph(_verdict(outcome)),
        section("Learning", _loss(outcome), _accuracy(outcome)),
        section("On the test", _confusion(outcome)),
        section("Against the baseline", _comparison(outcome)),
        section("Features", _features(outcome)),
        section("Made from", _provenance(outcome)),
    ]
    title = f"Training of {parameters.model_name} on {parameters.symbol}"
    path.write_text(page(title, subtitle, parts), encoding="utf-8")


def _headline(outcome: Outcome) -> list[Card]:
    judged = outcome.judgement
    tone = tone_of(judged.edge) if judged.is_clear or judged.edge < 0 else ""
    return [
        Card("accuracy on the test", percent(judged.accuracy)),
        Card("baseline", percent(judged.baseline_accuracy)),
        Card("better than the baseline", percent(judged.edge), tone),
        Card("standard error of that", percent(judged.edge_error)),
    ]


def _verdict(outcome: Outcome) -> str:
    judged = outcome.judgement
    if judged.is_clear:
        found = "is right more often by over two standard errors, which is hardly luck"
    elif judged.edge > 0:
        found = "is right more often, but by less than two standard errors: luck explains it"
    else:
        found = "is not right more often: it has found nothing"
    return (
        "The baseline always says what was more frequent among the training bars. "
        f"The model {found}."
    )


def _loss(outcome: Outcome) -> str:
    epochs, best = outcome.epochs, outcome.best
    return line_chart(
        [
            Line("training", [epoch.train_loss for epoch in epochs], "grey"),
            Line("validation", [epoch.validation_loss for epoch in epochs], "blue"),
        ],
        [str(epoch.number) for epoch in epochs],
        height=240,
        form=lambda value: number(value, 3),
        markers=[Marker(best.number - 1, best.validation_loss, up=True)],
        caption=f"Log loss after each epoch. Epoch {best.number}, marked, has the least on the "
        "validation, and its model is kept.",
    )


def _accuracy(outcome: Outcome) -> str:
    epochs = outcome.epochs
    return line_chart(
        [
            Line("training", [epoch.train_accuracy for epoch in epochs], "grey"),
            Line("validation", [epoch.validation_accuracy for epoch in epochs], "blue"),
        ],
        [str(epoch.number) for epoch in epochs],
        height=240,
        form=lambda value: percent(value, 1),
        caption="Share of right answers after each epoch.",
    )


def _comparison(outcome: Outcome) -> str:
    judged = outcome.judgement
    rows = [
        ("accuracy", percent(judged.accuracy), percent(judged.baseline_accuracy)),
        ("log loss", number(judged.loss, 4), number(judged.baseline_loss, 4)),
    ]
    return table(("", "model", "baseline"), rows)


def _features(outcome: Outcome) -> str:
    rows = [
        (name, each.kind, ", ".join(f"{key} {value}" for key, value in each.arguments))
        for name, each in outcome.feature_set.features.items()
    ]
    return table(("feature", "kind", "of"), rows, text=3)


def _confusion(outcome: Outcome) -> str:
    names = ("fell", "rose")
    cells = outcome.judgement.confusion.tolist()
    rows = [
        (f"it {name}", f"{sum(row):,}", percent(row[index] / sum(row) if sum(row) else None))
        for index, (name, row) in enumerate(zip(names, cells, strict=True))
    ]
    return matrix_chart(cells, names, across="the model said it", down="it") + table(
        ("what happened", "bars", "said so"), rows
    )


def _provenance(outcome: Outcome) -> str:
    parameters, split, made_by = outcome.parameters, outcome.split, code()
    used = ", ".join(f"{name} {each}" for name, each in libraries(LIBRARIES).items())
    return definitions(
        [
            ("Training bars", _dates(outcome, split.train)),
            ("Validation bars", _dates(outcome, split.validation)),
            ("Test bars", _dates(outcome, split.test)),
            (
                "Left out between",
                f"{parameters.horizon_bars} bars each time, whose labels look into the next part",
            ),
            ("Hidden units", ", ".join(map(str, parameters.hidden_units)) or "none"),
            ("Learning rate", f"{parameters.learning_rate:g}"),
            ("Patience", f"{parameters.patience} epochs, of {parameters.epochs} at most"),
            ("Seed", str(parameters.seed)),
            ("Data, SHA-256", outcome.bars.data_hash),
            ("KTRDR", f"{made_by['version']}, commit {made_by['commit']}"),
            ("Libraries", used),
        ]
    )


def _dates(outcome: Outcome, part: Positions) -> str:
    times = outcome.bars.times[outcome.samples.index[part]]
    return f"{times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}"
