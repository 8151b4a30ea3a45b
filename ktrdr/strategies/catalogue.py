"""Where strategies are: some come with KTRDR, the others lie in ``SHARED/strategies/NAME.yml``."""

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


def names(directory: Path) -> list[str]:
    """Every strategy there is, those that come with KTRDR first.

    Raises:
        HostNotReady: The directory is there and cannot be read.
    """
    return [*_names(_BUILT_IN), *(name for name in _own(directory) if not is_built_in(name))]


def is_built_in(name: str) -> bool:
    """Whether the strategy comes with KTRDR; no file of one's own can take its place."""
    return name in _names(_BUILT_IN)


def find(name: str, directory: Path) -> Strategy:
    """The strategy of that name.

    Args:
        name: As its document says, too.
        directory: Where the users' own are; it need not exist.

    Raises:
        InvalidParameters: There is none, or its document is wrong.
    """
    text = _text(name, directory)
    if text is None:
        known = names(directory)
        raise InvalidParameters(
            f"there is no strategy {name}{did_you_mean(name, known)}",
            hint=f"There is {', '.join(known)}; add one with `ktrdr strategies put FILE`.",
        )
    strategy = read_strategy(text, f"{name}{SUFFIX}")
    if strategy.name != name:
        raise InvalidParameters(
            f"the file {name}{SUFFIX} says that its strategy is called {strategy.name}",
            hint="Put it there with `ktrdr strategies put FILE`, which uses the name within.",
        )
    return strategy


def find_features(name: str, directory: Path) -> FeatureSet:
    """The feature set of that name, or the indicators of the strategy of that name.

    Parameters of such a strategy have the first of their default values.

    Raises:
        InvalidParameters: There is neither, its document is wrong, or it has no indicators.
    """
    sets = _BUILT_IN / "features"
    if name in _names(sets):
        return read_feature_set(_content(sets / f"{name}{SUFFIX}"), f"{name}{SUFFIX}")
    if _text(name, directory) is None:
        known = [*_names(sets), *names(directory)]
        raise InvalidParameters(
            f"there is no feature set and no strategy {name}{did_you_mean(name, known)}",
            hint=f"Features can be those of {', '.join(known)}.",
        )
    strategy = find(name, directory)
    values = {each.name: each.defaults[0] for each in strategy.parameters.values()}
    definitions = {key: each.with_values(values) for key, each in strategy.indicators.items()}
    models = [key for key, each in definitions.items() if each.kind == "model"]
    if models or not definitions:
        reason = f"{models[0]} is a model itself" if models else "it has no indicators"
        raise InvalidParameters(
            f"strategy {name} cannot give features: {reason}",
            hint="Name a strategy whose indicators are all computed from the bars.",
        )
    return FeatureSet(name, definitions)


def show(name: str, directory: Path) -> str:
    """The document, as it was written.

    Raises:
        NotFound: There is no such strategy.
    """
    text = _text(name, directory)
    if text is None:
        raise NotFound(
            f"there is no strategy {name}{did_you_mean(name, names(directory))}",
            hint="`ktrdr strategies list` shows them.",
        )
    return text


def listing(directory: Path) -> list[StrategyInfo]:
    """Every strategy; one whose file is wrong says so instead of its parameters."""
    return [_info_or_fault(name, directory) for name in names(directory)]


def info(strategy: Strategy) -> StrategyInfo:
    """What a listing says of a strategy."""
    return StrategyInfo(
        name=strategy.name,
        description=strategy.description,
        built_in=is_built_in(strategy.name),
        parameters=[
            StrategyParameter(
                name=each.name,
                defaults=each.defaults,
                minimum=each.minimum,
                maximum=each.maximum,
                integer=each.integer,
            )
            for each in strategy.parameters.values()
        ],
        content_hash=strategy.content_hash,
    )


def put(name: str, text: str, directory: Path) -> Strategy:
    """Checks a document and puts it in place of what was there.

    Raises:
        InvalidParameters: It is wrong, or says another name; nothing has changed.
        Conflict: A strategy of that name comes with KTRDR.
        HostNotReady: The shared directory cannot be written.
    """
    strategy = read_strategy(text, f"{name}{SUFFIX}")
    if strategy.name != name:
        raise InvalidParameters(
            f"the document says that the strategy is called {strategy.name}, not {name}",
            hint="Use the name within the document.",
        )
    _refuse_built_in(name)
    path = _path(directory, name)
    temporary = path.with_name(f".{name}.{secrets.token_hex(4)}")
    with _writing(path):
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


def delete(name: str, directory: Path) -> None:
    """Removes a strategy of one's own.

    Raises:
        NotFound: There is no such strategy.
        Conflict: It comes with KTRDR.
        HostNotReady: The shared directory cannot be written.
    """
    _refuse_built_in(name)
    show(name, directory)
    path = _path(directory, name)
    with _writing(path):
        path.unlink(missing_ok=True)


def _refuse_built_in(name: str) -> None:
    if is_built_in(name):
        raise Conflict(
            f"strategy {name} comes with KTRDR and cannot be changed",
            hint=f"Give yours another name; `ktrdr strategies show {name}` gives a start.",
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise HostNotReady(
            f"{path} cannot be written ({exc.strerror})",
            hint="Check the shared directory's space and owner (user 10001).",
        ) from exc


def _info_or_fault(name: str, directory: Path) -> StrategyInfo:
    try:
        return info(find(name, directory))
    except InvalidParameters as fault:
        return StrategyInfo(
            name=name,
            description="",
            built_in=False,
            parameters=[],
            content_hash="",
            fault=fault.message,
        )


def _text(name: str, directory: Path) -> str | None:
    """The document of that name; None if there is none."""
    if not re.fullmatch(NAME_PATTERN, name):
        return None
    if is_built_in(name):
        return _content(_BUILT_IN / f"{name}{SUFFIX}")
    path = _path(directory, name)
    return _content(path) if path.is_file() else None


def _content(path: Traversable) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidParameters(
            f"the strategy's file {path.name} cannot be read ({type(exc).__name__})",
            hint="It must be a readable file of UTF-8 text; put it there again.",
        ) from exc


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}{SUFFIX}"


def _names(directory: Traversable) -> list[str]:
    found = (each.name for each in directory.iterdir() if each.name.endswith(SUFFIX))
    return sorted(name.removesuffix(SUFFIX) for name in found if not name.startswith("."))


def _own(directory: Path) -> list[str]:
    try:
        found = _names(directory) if directory.is_dir() else []
    except OSError as exc:
        raise HostNotReady(
            f"{directory} cannot be read ({exc.strerror})",
            hint="Check the shared directory's mount and owner (user 10001).",
        ) from exc
    return [name for name in found if re.fullmatch(NAME_PATTERN, name)]
