"""Loader of compose files, with Compose's own tags and services that extend others."""

from __future__ import annotations

import re
from copy import copy
from typing import Any, Final, NamedTuple

import yaml

from ktrdr.errors import ConfigurationError

# Libyaml is ten times as fast, if it is installed.
_SafeLoader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Keys whose value may be a mapping or a list.
_MAPPINGS: Final = frozenset({"depends_on", "environment"})


class _Replacement(NamedTuple):
    """Value with the tag ``!override``, or None with ``!reset``: it inherits nothing."""

    value: Any


class _Loader(_SafeLoader):  # type: ignore[misc]  # which one it is depends on the machine
    """Safe loader that knows these tags."""


def _construct(loader: Any, node: Any) -> _Replacement:
    plain = copy(node)
    plain.tag = loader.resolve(type(node), node.value, (True, False))
    return _Replacement(loader.construct_object(plain, deep=True))


_Loader.add_constructor("!override", _construct)
_Loader.add_constructor("!reset", lambda _loader, _node: _Replacement(None))


class ServiceError(Exception):
    """Service that a release cannot have: its name, and the reason as a predicate."""


def load(content: bytes, override: bytes = b"") -> Any:
    """Return the content of a compose file, with what its services inherit from each other.

    Args:
        content: The compose file.
        override: Another compose file, which overrides it.

    Raises:
        ServiceError: A service extends one that is not in this file, or itself.
        yaml.YAMLError: This is not YAML.
    """
    document, other = (yaml.load(text, Loader=_Loader) for text in (content, override))  # noqa: S506 - it is a safe one
    services = document.get("services") if isinstance(document, dict) else None
    if isinstance(services, dict):
        own = other["services"] if other else {}
        document["services"] = {
            name: _merge(_resolve(services, name), own.get(name)) for name in services
        }
    return document


def to_error(name: str, content: bytes, error: Exception) -> ConfigurationError:
    """Return the error for a compose file that cannot be read, with the line if it is known."""
    if isinstance(error, ServiceError):
        service, reason = map(str, error.args)
        # Keys of the services themselves are indented once.
        found = re.search(rb"^ {1,4}%s:" % re.escape(service.encode()), content, re.MULTILINE)
        line = content.count(b"\n", 0, found.start()) + 1 if found else 1
        return ConfigurationError(
            f"{name}:{line}: service {service} {reason}",
            hint="Give it the image that hosts pull, in this file; or deploy another commit.",
        )
    mark = getattr(error, "problem_mark", None)
    reason = f": line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else ""
    return ConfigurationError(
        f"{name} of the release is not a compose file{reason}",
        hint="Correct it (`docker compose config` checks it), or deploy another commit.",
    )


def _resolve(services: dict[str, Any], name: str, extending: tuple[str, ...] = ()) -> Any:
    """Return a service with what it inherits."""
    entry = services[name]
    if isinstance(entry, dict):
        entry = entry | {key: _to_mapping(entry[key]) for key in _MAPPINGS & entry.keys()}
    extends = entry.get("extends") if isinstance(entry, dict) else None
    if not extends:
        return _merge(None, entry)
    parts = (
        [extends.get("file"), extends.get("service")] if isinstance(extends, dict) else [extends]
    )
    other = ":".join(filter(None, parts))
    if other not in services or other in (name, *extending):
        raise ServiceError(name, f"extends {other}, which is not in this file or extends it")
    return _merge(_resolve(services, other, (name, *extending)), entry)


def _to_mapping(value: Any) -> Any:
    """Return a mapping for a list of ``NAME=VALUE`` or ``NAME``, and other values unchanged."""
    if isinstance(value, _Replacement):
        return _Replacement(_to_mapping(value.value))
    if isinstance(value, list):
        pairs = (str(item).partition("=") for item in value)
        return {name: text if equals else None for name, equals, text in pairs}
    return value


def _merge(base: Any, own: Any) -> Any:
    """Return a value with what it inherits, as Compose merges the two."""
    if isinstance(own, _Replacement):
        return _merge(None, own.value)
    if isinstance(own, dict):
        inherited = base if isinstance(base, dict) else {}
        merged = {key: _merge(inherited.get(key), value) for key, value in own.items()}
        removed = {key for key, value in own.items() if value == _Replacement(None)}
        return {key: value for key, value in (inherited | merged).items() if key not in removed}
    if isinstance(own, list):
        return [*(base if isinstance(base, list) else ()), *(_merge(None, item) for item in own)]
    return base if own is None else own
