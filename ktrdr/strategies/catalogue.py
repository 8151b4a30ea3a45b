"""Catalogue of strategies: the built-in ones and the users' own in ``SHARED/strategies``."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ktrdr.errors import Conflict, HostNotReady, InvalidParameters, NotFound, did_you_mean
from ktrdr.schemas import NAME_PATTERN, StrategyInfo, StrategyParameter
from ktrdr.strategies.document import FeatureSet, Strategy
from ktrdr.strategies.document_file import MAX_BYTES, read_feature_set, read_strategy

SUFFIX: Final = ".yml"
_BUILT_IN: Final = files("ktrdr.strategies") / "builtin"


def list_names(directory: Path) -> list[str]:
    """Return the names of all strategies, built-in ones first.

    Raises:
        HostNotReady: The directory exists and cannot be read.
    """
    try:
        own = _names_in(directory) if directory.is_dir() else []
    except OSError as exc:
        raise HostNotReady(
            f"{directory} cannot be read ({exc.strerror})",
            hint="Check the shared directory's mount and owner (user 10001).",
        ) from exc
    built_in = _names_in(_BUILT_IN)
    valid = (name for name in own if re.fullmatch(NAME_PATTERN, name))
    return [*built_in, *(name for name in valid if name not in built_in)]


def is_built_in(name: str) -> bool:
    """Return whether a strategy is built in. A user's file cannot replace it."""
    return name in _names_in(_BUILT_IN)


def load_strategy(name: str, directory: Path) -> Strategy:
    """Return a strategy by name.

    Args:
        name: Name of the strategy, in its file name and in its document.
        directory: Directory of the users' own strategies, which need not exist.

    Raises:
        InvalidParameters: The strategy does not exist, or its document is invalid.
    """
    text = _find_document(name, directory)
    if text is None:
        names = list_names(directory)
        raise InvalidParameters(
            f"there is no strategy {name}{did_you_mean(name, names)}",
            hint=f"Choose {', '.join(names)}, or add a strategy with `ktrdr strategies put FILE`.",
        )
    strategy = read_strategy(text, f"{name}{SUFFIX}")
    if strategy.name != name:
        raise InvalidParameters(
            f"the file {name}{SUFFIX} describes a strategy with the name {strategy.name}",
            hint="Save it with `ktrdr strategies put FILE`, which uses the name in the document.",
        )
    return strategy


def load_feature_set(name: str, directory: Path) -> FeatureSet:
    """Return a feature set by name, or the indicators of the strategy with that name.

    Parameters of such a strategy have the first of their default values.

    Raises:
        InvalidParameters: Neither exists, the document is invalid, or it has no indicators.
    """
    feature_sets = _BUILT_IN / "features"
    if name in _names_in(feature_sets):
        return read_feature_set(_read_text(feature_sets / f"{name}{SUFFIX}"), f"{name}{SUFFIX}")
    if _find_document(name, directory) is None:
        names = [*_names_in(feature_sets), *list_names(directory)]
        raise InvalidParameters(
            f"there is no feature set or strategy {name}{did_you_mean(name, names)}",
            hint=f"Choose {', '.join(names)}.",
        )
    strategy = load_strategy(name, directory)
    values = {parameter.name: parameter.defaults[0] for parameter in strategy.parameters.values()}
    features = {key: template.with_values(values) for key, template in strategy.indicators.items()}
    models = [key for key, component in features.items() if component.kind == "model"]
    if models or not features:
        reason = f"{models[0]} is itself a model" if models else "it has no indicators"
        raise InvalidParameters(
            f"strategy {name} cannot be used as features: {reason}",
            hint="Choose a strategy whose indicators are all computed from the bars.",
        )
    return FeatureSet(name, features)


def read_document(name: str, directory: Path) -> str:
    """Return the YAML of a strategy, as it was written.

    Raises:
        NotFound: The strategy does not exist.
    """
    text = _find_document(name, directory)
    if text is None:
        raise NotFound(
            f"there is no strategy {name}{did_you_mean(name, list_names(directory))}",
            hint="List the strategies with `ktrdr strategies list`.",
        )
    return text


def list_strategies(directory: Path) -> list[StrategyInfo]:
    """Return all strategies; an invalid file is listed with its error instead of parameters."""
    strategies = []
    for name in list_names(directory):
        try:
            strategies.append(describe_strategy(load_strategy(name, directory)))
        except InvalidParameters as exc:
            strategies.append(
                StrategyInfo(
                    name=name,
                    description="",
                    built_in=False,
                    parameters=[],
                    content_hash="",
                    fault=exc.message,
                )
            )
    return strategies


def describe_strategy(strategy: Strategy) -> StrategyInfo:
    """Return a strategy as listings show it."""
    return StrategyInfo(
        name=strategy.name,
        description=strategy.description,
        built_in=is_built_in(strategy.name),
        parameters=[
            StrategyParameter(
                name=parameter.name,
                defaults=parameter.defaults,
                minimum=parameter.minimum,
                maximum=parameter.maximum,
                integer=parameter.is_integer,
            )
            for parameter in strategy.parameters.values()
        ],
        content_hash=strategy.content_hash,
    )


def save_strategy(name: str, text: str, directory: Path) -> Strategy:
    """Validate a document and save it, replacing an earlier strategy with that name.

    Raises:
        InvalidParameters: The document is invalid or has another name. Nothing has changed.
        Conflict: The strategy is built in.
        HostNotReady: The shared directory cannot be written.
    """
    strategy = read_strategy(text, f"{name}{SUFFIX}")
    if strategy.name != name:
        raise InvalidParameters(
            f"the document describes a strategy with the name {strategy.name}, not {name}",
            hint="Use the name in the document.",
        )
    _check_not_built_in(name)
    path = directory / f"{name}{SUFFIX}"
    temporary = path.with_name(f".{name}.{secrets.token_hex(4)}")
    with _translate_write_errors(path):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return strategy


def delete_strategy(name: str, directory: Path) -> None:
    """Delete a user's own strategy.

    Raises:
        NotFound: The strategy does not exist.
        Conflict: The strategy is built in.
        HostNotReady: The shared directory cannot be written.
    """
    _check_not_built_in(name)
    read_document(name, directory)
    path = directory / f"{name}{SUFFIX}"
    with _translate_write_errors(path):
        path.unlink(missing_ok=True)


def _check_not_built_in(name: str) -> None:
    if is_built_in(name):
        raise Conflict(
            f"strategy {name} is built in and cannot be changed",
            hint=f"Save a copy under another name: `ktrdr strategies show {name}` writes its YAML.",
        )


@contextlib.contextmanager
def _translate_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise HostNotReady(
            f"{path} cannot be written ({exc.strerror})",
            hint="Check the shared directory's space and owner (user 10001).",
        ) from exc


def _find_document(name: str, directory: Path) -> str | None:
    """Return the YAML of a strategy, or None if the strategy does not exist."""
    if not re.fullmatch(NAME_PATTERN, name):
        return None
    if is_built_in(name):
        return _read_text(_BUILT_IN / f"{name}{SUFFIX}")
    path = directory / f"{name}{SUFFIX}"
    return _read_text(path) if path.is_file() else None


def _read_text(path: Traversable) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        # A file that is too large may be cut inside a character; its size is reported later.
        return content.decode("utf-8", "replace" if len(content) > MAX_BYTES else "strict")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidParameters(
            f"the strategy file {path.name} cannot be read ({type(exc).__name__})",
            hint="Make sure that the file is readable and UTF-8.",
        ) from exc


def _names_in(directory: Traversable) -> list[str]:
    names = (file.name for file in directory.iterdir() if file.name.endswith(SUFFIX))
    return sorted(name.removesuffix(SUFFIX) for name in names if not name.startswith("."))
