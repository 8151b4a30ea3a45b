"""Reads the inventory's file, with the line of everything that is wrong in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from ktrdr.deployment.homelab.inventory import (
    Core,
    HookSettings,
    Inventory,
    Ports,
    SecretSettings,
    WorkerNode,
    with_defaults,
)
from ktrdr.errors import ConfigurationError, did_you_mean
from ktrdr.yaml_source import KeyPath, YamlFault, dotted, kind_of, read_yaml

ENVIRONMENT_PREFIX: Final = "KTRDR_INVENTORY_"
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_HINT: Final = "docs/adding-a-node.md lists the inventory's keys, their types and defaults."


@dataclass
class _Source:
    """The values given, and where each of them stands."""

    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)
    fallback: str = ""

    def place(self, path: KeyPath) -> str:
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
    source = _parsed(_read(path, name), name)
    for variable, text in _variables(environ or {}):
        _override(source, _path_of(variable, source.data), text, place=variable)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--set {setting}: what to set is written KEY=VALUE",
                hint="Write for example `--set core.host=backend.example.org`.",
            )
        _override(source, tuple(key.split(".")), text, place=f"--set {key}")
    return _anchored(_validated(source), path.absolute().parent)


def parse(text: str, *, shown_as: str) -> Inventory:
    """Checks the text of an inventory; paths in it stay as they are.

    Raises:
        ConfigurationError: Something in it is wrong; the message begins with ``shown_as`` and line.
    """
    return _validated(_parsed(text, shown_as))


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"the inventory {name} does not exist",
            hint="Run ktrdr in the checkout, name the file with --inventory, or write one with "
            "`ktrdr deploy init`.",
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"the inventory {name} cannot be read: {getattr(exc, 'strerror', None) or exc}",
            hint="It must be a readable file of UTF-8 text.",
        ) from exc


def _parsed(text: str, name: str) -> _Source:
    try:
        written = read_yaml(text, name)
    except YamlFault as exc:
        raise _wrong(f"{name}:{exc.line}", exc.reason) from exc
    if not isinstance(written.data, dict):
        raise _wrong(f"{name}:1", f"an inventory is keys with values, not {kind_of(written.data)}")
    places = {path: f"{name}:{line}" for path, line in written.lines.items()}
    return _Source(written.data, places, f"{name}:1")


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX):
            yield variable, environ[variable]


def _path_of(variable: str, data: Mapping[str, Any]) -> KeyPath:
    known = {_variable(path): path for path in _known_paths(data)}
    if variable not in known:
        raise ConfigurationError(
            f"{variable} names no key of the inventory{did_you_mean(variable, known)}", hint=_HINT
        )
    return known[variable]


def _variable(path: KeyPath) -> str:
    return ENVIRONMENT_PREFIX + "_".join(path).upper().replace("-", "_")


def _known_paths(data: Mapping[str, Any]) -> Iterator[KeyPath]:
    for model, path in _models(data):
        for key, info in model.model_fields.items():
            if not _is_model(info.annotation) and (*path, key) != ("workers",):
                yield (*path, key)


def _models(data: Mapping[str, Any]) -> Iterator[tuple[type[BaseModel], KeyPath]]:
    yield Inventory, ()
    yield SecretSettings, ("secrets",)
    yield HookSettings, ("hooks",)
    yield Core, ("core",)
    yield Ports, ("core", "ports")
    workers = data.get("workers")
    for name in workers if isinstance(workers, Mapping) else ():
        yield WorkerNode, ("workers", name)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _override(source: _Source, path: KeyPath, text: str, *, place: str) -> None:
    value = _value(text, place)
    branch = source.data
    for key in path[:-1]:
        if not isinstance(branch.get(key), dict):
            branch[key] = {}
        branch = branch[key]
    branch[path[-1]] = value
    for stale in [other for other in source.places if other[: len(path)] == path]:
        del source.places[stale]
    source.places[path] = place


def _value(text: str, place: str) -> Any:
    """What an override says, read as the file is; what is not YAML is the text that it is."""
    if not text.strip():
        return None
    with contextlib.suppress(YamlFault):
        return read_yaml(text, place).data
    return text


def _validated(source: _Source) -> Inventory:
    _refuse_odd_node_names(source)
    try:
        inventory = Inventory.model_validate(with_defaults(source.data))
    except ValidationError as exc:
        raise _explained(exc, source) from exc
    _refuse_twice(source, _ports(inventory), "port {} is already that of {}")
    _refuse_twice(source, _hosts(inventory), "{} is already the host of {}")
    _refuse_no_file(source, inventory.secrets)
    return inventory


def _anchored(inventory: Inventory, directory: Path) -> Inventory:
    """Makes the paths of files on this machine absolute; they are relative to the inventory's."""
    secrets = inventory.secrets
    paths = {"file": secrets.file, "identity": secrets.identity}
    found = {key: str(directory / _expanded(text)) for key, text in paths.items() if text}
    return inventory.model_copy(update={"secrets": secrets.model_copy(update=found)})


def _expanded(text: str) -> Path:
    # A user that does not exist has no home: the path is then as missing as it is wrong.
    with contextlib.suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def _refuse_no_file(source: _Source, secrets: SecretSettings) -> None:
    if secrets.source in ("age", "sops") and secrets.file is None:
        path = ("secrets", "source")
        raise _wrong(
            source.place(path), f"secrets.source {secrets.source} needs secrets.file as well"
        )


def _refuse_odd_node_names(source: _Source) -> None:
    workers = source.data.get("workers")
    for name in workers if isinstance(workers, Mapping) else ():
        if not _NODE_NAME.fullmatch(str(name)):
            raise _wrong(
                source.place(("workers", str(name))),
                f"{name!r} cannot name a node: letters, digits and inner hyphens can",
            )


def _ports(inventory: Inventory) -> Iterator[tuple[KeyPath, int]]:
    for name, port in inventory.core.ports.model_dump().items():
        yield ("core", "ports", name), port


def _hosts(inventory: Inventory) -> Iterator[tuple[KeyPath, str]]:
    yield ("core", "host"), inventory.core.host
    for name, node in inventory.workers.items():
        yield ("workers", name, "host"), node.host


def _refuse_twice(source: _Source, entries: Iterable[tuple[KeyPath, Any]], complaint: str) -> None:
    owners: dict[Any, KeyPath] = {}
    for path, value in entries:
        if value in owners:
            other = owners[value]
            # The one that was written is to blame, not the one that is a default.
            path, other = (path, other) if path in source.places else (other, path)
            raise _wrong(
                source.place(path), f"{dotted(path)}: {complaint.format(value, dotted(other))}"
            )
        owners[value] = path


def _explained(error: ValidationError, source: _Source) -> ConfigurationError:
    """The first thing that is wrong, in the order of the file."""
    faults = []
    for fault in error.errors(include_url=False):
        path = tuple(str(part) for part in fault["loc"])
        reason = f"{dotted(path)} {_reason(fault, path)}"
        faults.append((source.place(path), reason, path in source.places))
    # A default that follows from a wrong value is wrong, too, and not worth a word.
    written = [fault for fault in faults if fault[2]] or faults
    written.sort(key=lambda found: _line(found[0]))
    place, reason, _ = written[0]
    more = f" (and {len(written) - 1} more)" if len(written) > 1 else ""
    return _wrong(place, f"{reason}{more}")


def _reason(fault: Any, path: KeyPath) -> str:
    kind, given, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"is not a known key{did_you_mean(path[-1], _siblings(path))}"
    if kind == "value_error":
        return f"{context['error']}: {given!r}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if "ge" in context else "at most"
        return f"must be {bound} {context.get('ge', context.get('le'))}, not {given}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {given!r}"
    wanted = {"string_type": "text", "int_type": "a whole number"}.get(kind, "keys with values")
    return f"must be {wanted}, not {kind_of(given)}"


def _siblings(path: KeyPath) -> list[str]:
    for model, where in _models({"workers": {path[1]: {}} if len(path) > 1 else {}}):
        if where == path[:-1]:
            return list(model.model_fields)
    return []


def _line(place: str) -> int:
    number = place.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _wrong(place: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{place}: {reason}", hint=_HINT)
