"""Reads the inventory's file, with the line of everything that is wrong in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from ktrdr.deployment.inventory import Core, Inventory, Ports, Vault, WorkerNode, with_defaults
from ktrdr.errors import ConfigurationError

ENVIRONMENT_PREFIX: Final = "KTRDR_INVENTORY_"
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_HINT: Final = "docs/adding-a-node.md lists the inventory's keys, their types and defaults."

Path_ = tuple[str, ...]


@dataclass
class _Source:
    """The values given, and where each of them stands."""

    data: dict[str, Any]
    places: dict[Path_, str] = field(default_factory=dict)
    fallback: str = ""

    def place(self, path: Path_) -> str:
        """Where the value, or the nearest thing around it that was written, stands."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.fallback)


def load(
    path: Path,
    *,
    shown_as: str | None = None,
    environ: Mapping[str, str] | None = None,
    settings: Iterable[str] = (),
) -> Inventory:
    """Reads and checks an inventory.

    Args:
        path: The YAML file.
        shown_as: What errors call it; by default its path.
        environ: ``KTRDR_INVENTORY_CORE_HOST`` there wins over ``core: host:`` in the file.
        settings: ``core.host=NAME``, which win over both.

    Raises:
        ConfigurationError: The file is missing, not YAML, or something in it is wrong; the message
            begins with file and line.
    """
    name = shown_as or str(path)
    source = _read(path, name)
    for variable, text in _variables(environ or {}):
        _override(source, _path_of(variable, source.data), text, place=variable)
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        if not equals or not dotted:
            raise ConfigurationError(
                f"--set {setting}: what to set is written KEY=VALUE",
                hint="Write for example `--set core.host=backend.example.org`.",
            )
        _override(source, tuple(dotted.split(".")), text, place=f"--set {dotted}")
    return _validated(source)


def _read(path: Path, name: str) -> _Source:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"the inventory {name} does not exist",
            hint="Run ktrdr in the checkout, or name the file with --inventory.",
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"the inventory {name} cannot be read: {getattr(exc, 'strerror', None) or exc}",
            hint="It must be a readable file of UTF-8 text.",
        ) from exc
    source = _Source({}, {(): f"{name}:1"}, f"{name}:1")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = _plain(root, (), source.places, name) if root else {}
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        raise _wrong(f"{name}:{line}", f"this is not YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise _wrong(
            f"{name}:1", "this is not YAML: it holds a character that is not text"
        ) from exc
    except RecursionError as exc:
        raise _wrong(f"{name}:1", "this is not an inventory: it is nested too deeply") from exc
    if not isinstance(data, dict):
        raise _wrong(f"{name}:1", f"an inventory is keys with values, not {_kind(data)}")
    source.data = data
    return source


def _plain(node: yaml.Node, path: Path_, places: dict[Path_, str], name: str) -> Any:
    """The node as plain data; notes the line of everything in it."""
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(item, (*path, str(index)), places, name) for index, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, name)
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = f"{name}:{key_node.start_mark.line + 1}"
        # The text itself: YAML would take a node called N for "no".
        key = str(key_node.value)
        inner = (*path, key)
        if key in found:
            raise _wrong(place, f"{_dotted(inner)} stands twice (first on {places[inner]})")
        places[inner] = place
        found[key] = _plain(value_node, inner, places, name)
    return found


def _scalar(node: yaml.Node, name: str) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, yaml.constructor.ConstructorError) as exc:
        reason = getattr(exc, "problem", None) or exc
        raise _wrong(f"{name}:{node.start_mark.line + 1}", str(reason)) from exc
    finally:
        loader.dispose()


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX):
            yield variable, environ[variable]


def _path_of(variable: str, data: Mapping[str, Any]) -> Path_:
    known = {_variable(path): path for path in _known_paths(data)}
    if variable not in known:
        raise ConfigurationError(
            f"{variable} names no key of the inventory{_did_you_mean(variable, known)}", hint=_HINT
        )
    return known[variable]


def _variable(path: Path_) -> str:
    return ENVIRONMENT_PREFIX + "_".join(path).upper().replace("-", "_")


def _known_paths(data: Mapping[str, Any]) -> Iterator[Path_]:
    for model, path in _models(data):
        for key, info in model.model_fields.items():
            if not _is_model(info.annotation) and (*path, key) != ("workers",):
                yield (*path, key)


def _models(data: Mapping[str, Any]) -> Iterator[tuple[type[BaseModel], Path_]]:
    yield Inventory, ()
    yield Vault, ("secrets",)
    yield Core, ("core",)
    yield Ports, ("core", "ports")
    workers = data.get("workers")
    for name in workers if isinstance(workers, Mapping) else ():
        yield WorkerNode, ("workers", name)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _override(source: _Source, path: Path_, text: str, *, place: str) -> None:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    branch = source.data
    for key in path[:-1]:
        if not isinstance(branch.get(key), dict):
            branch[key] = {}
        branch = branch[key]
    branch[path[-1]] = value
    for stale in [other for other in source.places if other[: len(path)] == path]:
        del source.places[stale]
    source.places[path] = place


def _validated(source: _Source) -> Inventory:
    _refuse_odd_node_names(source)
    try:
        inventory = Inventory.model_validate(with_defaults(source.data))
    except ValidationError as exc:
        raise _explained(exc, source) from exc
    _refuse_twice(source, _ports(inventory), "port {} is already that of {}")
    _refuse_twice(source, _hosts(inventory), "{} is already the host of {}")
    return inventory


def _refuse_odd_node_names(source: _Source) -> None:
    workers = source.data.get("workers")
    for name in workers if isinstance(workers, Mapping) else ():
        if not _NODE_NAME.fullmatch(str(name)):
            raise _wrong(
                source.place(("workers", str(name))),
                f"{name!r} cannot name a node: letters, digits and inner hyphens can",
            )


def _ports(inventory: Inventory) -> Iterator[tuple[Path_, int]]:
    for name, port in inventory.core.ports.model_dump().items():
        yield ("core", "ports", name), port


def _hosts(inventory: Inventory) -> Iterator[tuple[Path_, str]]:
    yield ("core", "host"), inventory.core.host
    for name, node in inventory.workers.items():
        yield ("workers", name, "host"), node.host


def _refuse_twice(source: _Source, entries: Iterable[tuple[Path_, Any]], complaint: str) -> None:
    owners: dict[Any, Path_] = {}
    for path, value in entries:
        if value in owners:
            other = owners[value]
            # The one that was written is to blame, not the one that is a default.
            path, other = (path, other) if path in source.places else (other, path)
            raise _wrong(
                source.place(path), f"{_dotted(path)}: {complaint.format(value, _dotted(other))}"
            )
        owners[value] = path


def _explained(error: ValidationError, source: _Source) -> ConfigurationError:
    """The first thing that is wrong, in the order of the file."""
    faults = []
    for fault in error.errors(include_url=False):
        path = tuple(str(part) for part in fault["loc"])
        reason = f"{_dotted(path)} {_reason(fault, path)}"
        faults.append((source.place(path), reason, path in source.places))
    # A default that follows from a wrong value is wrong, too, and not worth a word.
    written = [fault for fault in faults if fault[2]] or faults
    written.sort(key=lambda found: _line(found[0]))
    place, reason, _ = written[0]
    more = f" (and {len(written) - 1} more)" if len(written) > 1 else ""
    return _wrong(place, f"{reason}{more}")


def _reason(fault: Any, path: Path_) -> str:
    kind, given, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"is not a known key{_did_you_mean(path[-1], _siblings(path))}"
    if kind == "value_error":
        return f"{context['error']}: {given!r}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if "ge" in context else "at most"
        return f"must be {bound} {context.get('ge', context.get('le'))}, not {given}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {given!r}"
    wanted = {"string_type": "text", "int_type": "a whole number"}.get(kind, "keys with values")
    return f"must be {wanted}, not {_kind(given)}"


def _siblings(path: Path_) -> list[str]:
    for model, where in _models({"workers": {path[1]: {}} if len(path) > 1 else {}}):
        if where == path[:-1]:
            return list(model.model_fields)
    return []


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), "keys")


def _dotted(path: Path_) -> str:
    return ".".join(path)


def _line(place: str) -> int:
    number = place.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _wrong(place: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{place}: {reason}", hint=_HINT)
