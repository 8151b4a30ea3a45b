"""HTML report of a training."""

from __future__ import annotations

from pathlib import Path

from ktrdr.reporting.charts import Line, Marker, line_chart, matrix_chart
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
from ktrdr.training.results import TrainingResult
from ktrdr.training.samples import Indexes


def write_report(result: TrainingResult, path: Path) -> None:
    """Write the report. Equal results give equal bytes."""
    parameters, split = result.parameters, result.split
    subtitle = (
        f"Prediction whether the close {parameters.horizon_bars} bars later is higher. Trained on "
        f"{len(split.train):,} bars, validated on the next {len(split.validation):,}, tested on "
        f"the last {len(split.test):,}"
    )
    parts = [
        card_row(_key_figures(result)),
        paragraph(_verdict(result)),
        section("Training", *_learning_curves(result)),
        section("Test", _confusion(result)),
        section("Comparison with the baseline", _comparison(result)),
        section("Features", _features(result)),
        section("Provenance", _provenance(result)),
    ]
    title = f"Training of {parameters.model_name} on {parameters.symbol}"
    path.write_text(render_page(title, subtitle, parts), encoding="utf-8")


def _key_figures(result: TrainingResult) -> list[Card]:
    evaluation = result.evaluation
    edge = evaluation.edge
    tone = gain_tone(edge) if evaluation.is_significant or edge < 0 else ""
    return [
        Card("test accuracy", format_percent(evaluation.accuracy)),
        Card("baseline accuracy", format_percent(evaluation.baseline_accuracy)),
        Card("edge over the baseline", format_percent(edge), tone),
        Card("standard error of the edge", format_percent(evaluation.edge_stderr)),
    ]


def _verdict(result: TrainingResult) -> str:
    evaluation = result.evaluation
    if evaluation.is_significant:
        verdict = "is better by more than two standard errors, which is unlikely to be chance"
    elif evaluation.edge > 0:
        verdict = "is better by less than two standard errors, which may be chance"
    else:
        verdict = "is not better: it has learnt nothing useful"
    return (
        "The baseline always predicts the more frequent class of the training bars. "
        f"The model {verdict}."
    )


def _learning_curves(result: TrainingResult) -> tuple[str, str]:
    epochs, best = result.epochs, result.best
    labels = [str(metrics.number) for metrics in epochs]
    loss = line_chart(
        [
            Line("training", [metrics.train_loss for metrics in epochs], "grey"),
            Line("validation", [metrics.validation_loss for metrics in epochs], "blue"),
        ],
        labels,
        height=240,
        format_value=lambda value: format_number(value, 3),
        markers=[Marker(best.number - 1, best.validation_loss, is_up=True)],
        caption=f"Log loss after each epoch. Epoch {best.number}, marked, has the lowest "
        "validation loss, and its model is kept.",
    )
    accuracy = line_chart(
        [
            Line("training", [metrics.train_accuracy for metrics in epochs], "grey"),
            Line("validation", [metrics.validation_accuracy for metrics in epochs], "blue"),
        ],
        labels,
        height=240,
        format_value=lambda value: format_percent(value, 1),
        caption="Accuracy after each epoch.",
    )
    return loss, accuracy


def _comparison(result: TrainingResult) -> str:
    evaluation = result.evaluation
    accuracies = (evaluation.accuracy, evaluation.baseline_accuracy)
    losses = (evaluation.loss, evaluation.baseline_loss)
    rows = [
        ("accuracy", *map(format_percent, accuracies)),
        ("log loss", *(format_number(loss, 4) for loss in losses)),
    ]
    return table(("", "model", "baseline"), rows)


def _features(result: TrainingResult) -> str:
    rows = [
        (name, feature.kind, ", ".join(f"{key} {value}" for key, value in feature.arguments))
        for name, feature in result.feature_set.features.items()
    ]
    return table(("feature", "kind", "arguments"), rows, text_columns=3)


def _confusion(result: TrainingResult) -> str:
    names = ("fall", "rise")
    counts = result.evaluation.confusion.tolist()
    rows = [
        (name, f"{sum(row):,}", format_percent(row[index] / sum(row) if sum(row) else None))
        for index, (name, row) in enumerate(zip(names, counts, strict=True))
    ]
    return matrix_chart(counts, names, across="predicted", down="actual") + table(
        ("actual", "bars", "predicted correctly"), rows
    )


def _provenance(result: TrainingResult) -> str:
    parameters, split = result.parameters, result.split
    return definition_list(
        [
            ("Training bars", _dates(result, split.train)),
            ("Validation bars", _dates(result, split.validation)),
            ("Test bars", _dates(result, split.test)),
            (
                "Omitted between the parts",
                f"{parameters.horizon_bars} bars, whose labels depend on the next part",
            ),
            ("Hidden units", ", ".join(map(str, parameters.hidden_units)) or "none"),
            ("Learning rate", f"{parameters.learning_rate:g}"),
            ("Patience", f"{parameters.patience} of at most {parameters.epochs} epochs"),
            ("Seed", str(parameters.seed)),
            ("Data, SHA-256", result.bars.data_hash),
            *software_rows("scikit-learn", "numpy"),
        ]
    )


def _dates(result: TrainingResult, part: Indexes) -> str:
    times = result.bars.times[result.samples.bar_indexes[part]]
    return f"{times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}"
