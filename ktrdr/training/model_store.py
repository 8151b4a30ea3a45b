"""Stored models in ``models/NAME_VERSION/``: file format and loading."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.marketdata.bars import Bars, Floats
from ktrdr.schemas import NAME_PATTERN
from ktrdr.strategies.component_kinds import INDICATORS
from ktrdr.strategies.document import Component
from ktrdr.training.model import Classifier
from ktrdr.training.samples import compute_features

MODEL_FILE: Final = "model.skops"
METADATA_FILE: Final = "metadata.json"
FORMAT: Final = 1
# Libraries whose other major versions may read a stored model differently.
CHECKED_LIBRARIES: Final = ("scikit-learn", "skops")


class Feature(BaseModel):
    """A feature as the metadata describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    arguments: dict[str, int | float | str]


class Metadata(BaseModel):
    """The part of a model's ``metadata.json`` that is needed to use the model."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    timeframe: str
    trained_until: datetime
    features: list[Feature]
    libraries: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class StoredModel:
    """A trained model that was loaded and checked."""

    sha256: str
    timeframe: str
    trained_until: datetime
    features: Mapping[str, Component]
    classifier: Classifier

    def predict_probabilities(self, bars: Bars) -> Floats:
        """Return each bar's probability of a rise; NaN where a feature is unknown."""
        rows = compute_features(bars, self.features)
        is_known = np.isfinite(rows).all(axis=1)
        probabilities = np.full(len(bars), np.nan)
        if is_known.any():
            probabilities[is_known] = self.classifier.predict_probabilities(rows[is_known])
        return probabilities


def describe_features(features: Mapping[str, Component]) -> list[dict[str, Any]]:
    """Return the features as metadata, from which they can be computed again."""
    return [
        Feature(name=name, kind=feature.kind, arguments=dict(feature.arguments)).model_dump()
        for name, feature in features.items()
    ]


def load_model(
    models: Path, name: str, installed_version: Callable[[str], str] = version
) -> StoredModel:
    """Return a stored model.

    Args:
        models: Directory of the stored models.
        name: Name of the model's directory, NAME_VERSION.
        installed_version: Function that returns the installed version of a library.

    Raises:
        InvalidParameters: The model is missing or damaged, or was stored by another major version
            of a library.
    """
    directory = models / name
    if not re.fullmatch(NAME_PATTERN, name) or not directory.is_dir():
        names = sorted(path.name for path in models.glob("*/") if not path.name.startswith("."))
        raise InvalidParameters(
            f"there is no model {name}{did_you_mean(name, names)}",
            hint=f"Choose {', '.join(names)}." if names else "Train a model first.",
        )
    metadata = _read_metadata(directory, name)
    _check_libraries(metadata, name, installed_version)
    content = _read_file(directory / MODEL_FILE, name)
    if hashlib.sha256(content).hexdigest() != metadata.sha256:
        raise _damaged(name, f"{MODEL_FILE} does not match the hash in {METADATA_FILE}")
    features = {
        feature.name: Component(feature.kind, tuple(feature.arguments.items()))
        for feature in metadata.features
    }
    classifier = Classifier.load(content)
    if classifier.feature_count != len(features):
        raise _damaged(
            name, f"it needs {classifier.feature_count} features, and there are {len(features)}"
        )
    return StoredModel(
        metadata.sha256, metadata.timeframe, metadata.trained_until, features, classifier
    )


def _read_metadata(directory: Path, name: str) -> Metadata:
    content = _read_file(directory / METADATA_FILE, name)
    try:
        raw = json.loads(content)
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise InvalidParameters(
                f"model {name} was stored by another release, in a different format",
                hint="Train it again with this release.",
            )
        metadata = Metadata.model_validate(raw)
    except (ValidationError, ValueError, RecursionError) as exc:
        raise _damaged(name, f"{METADATA_FILE} cannot be read ({type(exc).__name__})") from exc
    unknown = [feature.kind for feature in metadata.features if not _is_known(feature)]
    if unknown:
        raise _damaged(name, f"it has unknown features: {', '.join(unknown)}")
    if not metadata.features:
        raise _damaged(name, "it has no features")
    if metadata.trained_until.tzinfo is None:
        raise _damaged(name, f"{METADATA_FILE} contains a time without a zone")
    return metadata


def _is_known(feature: Feature) -> bool:
    """Return whether a feature can be computed. A model cannot be a feature of a model."""
    kind = INDICATORS.get(feature.kind)
    return kind is not None and kind.name != "model" and kind.accepts(feature.arguments)


def _check_libraries(
    metadata: Metadata, name: str, installed_version: Callable[[str], str]
) -> None:
    for library in CHECKED_LIBRARIES:
        stored, installed = metadata.libraries.get(library, "none"), installed_version(library)
        if stored.partition(".")[0] != installed.partition(".")[0]:
            raise InvalidParameters(
                f"model {name} was stored with {library} {stored}, and {library} {installed} is "
                "installed",
                hint="Train it again with this release: another major version may read it "
                "differently.",
            )


def _read_file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _damaged(name, f"{path.name} cannot be read ({exc.strerror})") from exc


def _damaged(name: str, reason: str) -> InvalidParameters:
    return InvalidParameters(
        f"model {name} is damaged: {reason}", hint="Train it again, or restore its directory."
    )
