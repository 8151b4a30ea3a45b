"""Models in ``models/NAME_VERSION/``: what is written of them, and reading one back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
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
from ktrdr.training.features import feature_table
from ktrdr.training.model import Classifier

MODEL_FILE: Final = "model.skops"
METADATA_FILE: Final = "metadata.json"
FORMAT: Final = 1
# What a model is stored by; another major version of one may read it as something else.
BOUND_TO: Final = ("scikit-learn", "skops")


class Feature(BaseModel):
    """A column of what the model looks at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    arguments: dict[str, int | float | str]


class Metadata(BaseModel):
    """What a model's ``metadata.json`` says, as far as the model is used by it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    timeframe: str
    trained_until: datetime
    features: list[Feature]
    libraries: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class StoredModel:
    """A model that was trained, checked, and can be asked."""

    sha256: str
    timeframe: str
    trained_until: datetime
    features: Mapping[str, Component]
    classifier: Classifier

    def probabilities(self, bars: Bars) -> Floats:
        """At each bar the probability that the price rises; NaN where a feature is not known."""
        rows = feature_table(bars, self.features)
        known = np.isfinite(rows).all(axis=1)
        found = np.full(len(bars), np.nan)
        if known.any():
            found[known] = self.classifier.probabilities(rows[known])
        return found


def feature_list(features: Mapping[str, Component]) -> list[dict[str, Any]]:
    """Features as the metadata has them: enough to compute them again."""
    return [
        Feature(name=name, kind=each.kind, arguments=dict(each.arguments)).model_dump()
        for name, each in features.items()
    ]


def read_model(models: Path, name: str, installed: Callable[[str], str] = version) -> StoredModel:
    """The stored model of that name.

    Args:
        models: The directory that holds them.
        name: Its directory there, NAME_VERSION.
        installed: Gives a library's version.

    Raises:
        InvalidParameters: It is missing, damaged, or was stored by other libraries than there are.
    """
    directory = models / name
    if not re.fullmatch(NAME_PATTERN, name) or not directory.is_dir():
        known = _names(models)
        raise InvalidParameters(
            f"there is no model {name}{did_you_mean(name, known)}",
            hint=f"There is {', '.join(known)}." if known else "Train one first.",
        )
    metadata = _metadata(directory, name)
    _refuse_other_libraries(metadata, name, installed)
    content = _content(directory / MODEL_FILE, name)
    if hashlib.sha256(content).hexdigest() != metadata.sha256:
        raise _damaged(name, f"{MODEL_FILE} is not the file that {METADATA_FILE} speaks of")
    features = {
        each.name: Component(each.kind, tuple(each.arguments.items())) for each in metadata.features
    }
    classifier = Classifier.load(content)
    if classifier.width != len(features):
        raise _damaged(name, f"it looks at {classifier.width} features, not {len(features)}")
    return StoredModel(
        metadata.sha256, metadata.timeframe, metadata.trained_until, features, classifier
    )


def _metadata(directory: Path, name: str) -> Metadata:
    content = _content(directory / METADATA_FILE, name)
    try:
        raw = json.loads(content)
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise InvalidParameters(
                f"model {name} was stored by a release that wrote models otherwise",
                hint="Train it again with this release.",
            )
        metadata = Metadata.model_validate(raw)
    except (ValidationError, ValueError, RecursionError) as exc:
        raise _damaged(name, f"{METADATA_FILE} cannot be read ({type(exc).__name__})") from exc
    unknown = [each.kind for each in metadata.features if not _is_known(each)]
    if unknown or not metadata.features:
        raise _damaged(name, f"it names features that nobody knows: {', '.join(unknown) or 'none'}")
    if metadata.trained_until.tzinfo is None:
        raise _damaged(name, f"{METADATA_FILE} says a time without a zone")
    return metadata


def _is_known(feature: Feature) -> bool:
    """Whether it can be computed; a model that asks a model cannot."""
    kind = INDICATORS.get(feature.kind)
    return kind is not None and kind.name != "model" and kind.accepts(feature.arguments)


def _refuse_other_libraries(metadata: Metadata, name: str, installed: Callable[[str], str]) -> None:
    for library in BOUND_TO:
        then, now = metadata.libraries.get(library, "none"), installed(library)
        if _major(then) != _major(now):
            raise InvalidParameters(
                f"model {name} was stored with {library} {then}, and here is {library} {now}",
                hint="Train it again with this release: another major version may read it "
                "differently.",
            )


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _damaged(name, f"{path.name} cannot be read ({exc.strerror})") from exc


def _names(models: Path) -> Sequence[str]:
    return sorted(each.name for each in models.glob("*/") if not each.name.startswith("."))


def _major(text: str) -> str:
    return text.partition(".")[0]


def _damaged(name: str, reason: str) -> InvalidParameters:
    return InvalidParameters(
        f"model {name} is damaged: {reason}", hint="Train it again, or restore its directory."
    )
