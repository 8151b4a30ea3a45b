"""Reader and template of the inventory file. Errors name the line of the problem."""

from __future__ import annotations

import contextlib
import os
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from ktrdr.deployment.homelab.inventory import (
    FIELDS,
    Core,
    HookSettings,
    Inventory,
    Ports,
    PrepareSettings,
    SecretField,
    SecretSettings,
    WorkerNode,
    add_defaults,
)
from ktrdr.errors import ConfigurationError, did_you_mean
from ktrdr.yaml_source import KeyPath, YamlFault, dotted, kind_of, read_yaml

ENVIRONMENT_PREFIX: Final = "KTRDR_INVENTORY_"
_TEMPLATE: Final = "inventory.template.yml"
# Sections by their paths; the star stands for the name of a node or a field.
_SECTIONS: Final[Mapping[KeyPath, type[BaseModel]]] = {
    (): Inventory,
    ("secrets",): SecretSettings,
    ("secrets", "fields", "*"): SecretField,
    ("hooks",): HookSettings,
    ("prepare",): PrepareSettings,
    ("core",): Core,
    ("core", "ports"): Ports,
    ("workers", "*"): WorkerNode,
}
_HINT: Final = "docs/adding-a-node.md lists the inventory's keys, their types and defaults."


@dataclass
class _Source:
    """Values with their locations: a line of the file, a variable or an option."""

    data: dict[str, Any]
    locations: dict[KeyPath, str] = field(default_factory=dict)
    fallback: str = ""

    def locate(self, path: KeyPath) -> str:
        """Return the location of a value, or of the nearest value around it that was given."""
        while path and path not in self.locations:
            path = path[:-1]
        return self.locations.get(path, self.fallback)


def load_inventory(
    path: Path,
    *,
    shown_as: str | None = None,
    environ: Mapping[str, str] | None = None,
    settings: Iterable[str] = (),
) -> Inventory:
    """Read and validate an inventory.

    Args:
        path: The YAML file.
        shown_as: Name of the file in error messages; by default its path.
        environ: Environment whose ``KTRDR_INVENTORY_CORE_HOST`` wins over ``core: host:``.
        settings: Overrides such as ``core.host=NAME``, which win over both.

    Raises:
        ConfigurationError: The file is missing, not YAML, or has an invalid value; the message
            begins with file and line.
    """
    name = shown_as or str(path)
    source = _parse_yaml(_read(path, name), name)
    for variable, text in sorted((environ or {}).items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            _override(source, _path_of_variable(variable, source.data), text, location=variable)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--set {setting}: the value must have the form KEY=VALUE",
                hint="Write for example `--set core.host=backend.example.org`.",
            )
        _override(source, tuple(key.split(".")), text, location=f"--set {key}")
    return _resolve_paths(_validate(source), path.absolute().parent)


def parse_inventory(text: str, *, shown_as: str) -> Inventory:
    """Validate the text of an inventory. Relative paths in it stay relative.

    Raises:
        ConfigurationError: A value is invalid; the message begins with ``shown_as`` and line.
    """
    return _validate(_parse_yaml(text, shown_as))


def render_template(
    *,
    domain: str,
    core_host: str,
    nodes: Sequence[str],
    image: str,
    registry_user: str,
    secret_source: str,
) -> str:
    """Fill in the commented template of an inventory. `parse_inventory` validates the result.

    Args:
        domain: DNS zone of the default host names.
        core_host: Name of the core host for ssh.
        nodes: Names of the worker nodes, at least one.
        image: Image of backend and workers, without its tag.
        registry_user: User that logs in to the registry.
        secret_source: Source of the secrets.
    """
    file = {"age": "secrets.age", "sops": "secrets.sops.yaml"}.get(secret_source)
    template = Path(__file__).with_name(_TEMPLATE).read_text(encoding="utf-8")
    text = string.Template(template).substitute(
        domain=_yaml_scalar(domain),
        core_host=_yaml_scalar(core_host),
        image=_yaml_scalar(image),
        nfs_image=_yaml_scalar(f"{image.rpartition('/')[0]}/ktrdr-nfs-server"),
        registry_user=_yaml_scalar(registry_user),
        secret_source=_yaml_scalar(secret_source),
        secret_file=f"file: {file}" if file else "# file:",
        node=_yaml_scalar(nodes[0]),
        node_label=nodes[0].lower(),
        more_nodes="\n".join(f"  {_yaml_scalar(name)}: {{}}" for name in nodes[1:]),
    )
    return f"{text.rstrip()}\n"


def _yaml_scalar(text: str) -> str:
    # Only a double-quoted scalar keeps characters such as rare line breaks.
    style = None if text.isprintable() else '"'
    scalar: str = yaml.safe_dump(text, default_style=style, width=10_000, allow_unicode=True)
    return scalar.removesuffix("...\n").removesuffix("\n")


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"the inventory {name} does not exist",
            hint="Run ktrdr in the checkout, name the file with --inventory, or create one with "
            "`ktrdr deploy init`.",
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"the inventory {name} cannot be read: {getattr(exc, 'strerror', None) or exc}",
            hint="Make sure that the file is readable and UTF-8.",
        ) from exc


def _parse_yaml(text: str, name: str) -> _Source:
    try:
        document = read_yaml(text, name)
    except YamlFault as exc:
        raise _error(f"{name}:{exc.line}", exc.reason) from exc
    if not isinstance(document.data, dict):
        kind = kind_of(document.data)
        raise _error(f"{name}:1", f"an inventory must be a mapping of keys to values, not {kind}")
    locations = {path: f"{name}:{line}" for path, line in document.lines.items()}
    return _Source(document.data, locations, f"{name}:1")


def _path_of_variable(variable: str, data: Mapping[str, Any]) -> KeyPath:
    paths = {
        ENVIRONMENT_PREFIX + "_".join((*path, key)).upper().replace("-", "_"): (*path, key)
        for pattern, model in _SECTIONS.items()
        for path in _expand(pattern, data)
        for key in model.model_fields
        if (*path, key) not in {*_SECTIONS, ("workers",)}
    }
    if variable not in paths:
        raise ConfigurationError(
            f"{variable} names no key of the inventory{did_you_mean(variable, paths)}", hint=_HINT
        )
    return paths[variable]


def _expand(pattern: KeyPath, data: Any) -> list[KeyPath]:
    """Return the path of a section, or of all sections with the names that the data have."""
    if pattern[-1:] != ("*",):
        return [pattern]
    for key in pattern[:-1]:
        data = data.get(key) if isinstance(data, Mapping) else None
    return [(*pattern[:-1], name) for name in data] if isinstance(data, Mapping) else []


def _override(source: _Source, path: KeyPath, text: str, *, location: str) -> None:
    value = _parse_value(text, location)
    branch = source.data
    for key in path[:-1]:
        if not isinstance(branch.get(key), dict):
            branch[key] = {}
        branch = branch[key]
    branch[path[-1]] = value
    for stale in [other for other in source.locations if other[: len(path)] == path]:
        del source.locations[stale]
    source.locations[path] = location


def _parse_value(text: str, location: str) -> Any:
    """Parse an override as YAML, like the file. Text that is not YAML is the value itself."""
    if not text.strip():
        return None
    with contextlib.suppress(YamlFault):
        return read_yaml(text, location).data
    return text


def _validate(source: _Source) -> Inventory:
    try:
        inventory = Inventory.model_validate(add_defaults(source.data))
    except ValidationError as exc:
        raise _first_error(exc, source) from exc
    ports = inventory.core.ports.model_dump().items()
    _check_unique(
        source,
        ((("core", "ports", name), port) for name, port in ports),
        "port {} is already used by {}",
    )
    hosts = {("core",): inventory.core} | {("workers", n): w for n, w in inventory.workers.items()}
    for key in ("host", "ssh_host"):
        names = (((*path, key), getattr(host, key)) for path, host in hosts.items())
        _check_unique(source, names, "{} is already the host of {}")
    for name, node in inventory.workers.items():
        if not any(node.counts.values()):
            raise _error(
                source.locate(("workers", name, "backtest")),
                f"workers.{name} has no workers: give it some, or remove its stack with `ktrdr "
                f"deploy down workers {name}` and then its entry",
            )
    _check_secrets(source, inventory)
    return inventory


def _check_secrets(source: _Source, inventory: Inventory) -> None:
    secrets, given = inventory.secrets, inventory.secrets.source
    needed = {"age": "file", "sops": "file", "command": "command"}.get(given)
    if needed and not getattr(secrets, needed):
        reason = f"secrets.source {given} needs secrets.{needed} as well"
        raise _error(source.locate(("secrets", "source")), reason)
    names = [*FIELDS, *secrets.fields]
    # Hooks and environments have field names in one case.
    paths = [
        *((name,) for name in FIELDS),
        *(("secrets", "fields", name) for name in secrets.fields),
    ]
    _check_unique(source, ((path, path[-1].lower()) for path in paths), "{} is already a field: {}")
    for node, environment in {
        "": (),
        **{n: w.environment for n, w in inventory.workers.items()},
    }.items():
        stack = "workers" if node else "core"
        variables = [
            (("secrets", "fields", name, "variable"), variable)
            for name, each in secrets.fields.items()
            if stack in each.stacks
            for variable in (each.variable, f"{each.variable}_FILE")
        ]
        others = [(("workers", node, "environment", name), name) for name in environment]
        _check_unique(source, [*variables, *others], "{} is already used by {}")
    for name in inventory.hooks.secrets:
        if name not in names:
            reason = f"hooks.secrets: no field is called {name!r}{did_you_mean(name, names)}"
            raise _error(source.locate(("hooks", "secrets")), reason)


def _resolve_paths(inventory: Inventory, directory: Path) -> Inventory:
    """Make the paths of files on this machine absolute. They are relative to the inventory."""

    def resolve(text: str) -> str:
        # Unlike `Path.expanduser`, it leaves an unknown user to the error of the missing file.
        return str(directory / os.path.expanduser(text))  # noqa: PTH111

    secrets = inventory.secrets
    paths = {"file": secrets.file, "identity": secrets.identity}
    absolute: dict[str, Any] = {key: resolve(text) for key, text in paths.items() if text}
    # A program without a slash is searched in PATH.
    if secrets.command and "/" in (program := secrets.command[0]):
        absolute["command"] = (resolve(program), *secrets.command[1:])
    return inventory.model_copy(update={"secrets": secrets.model_copy(update=absolute)})


def _check_unique(source: _Source, entries: Iterable[tuple[KeyPath, Any]], message: str) -> None:
    owners: dict[Any, KeyPath] = {}
    for path, value in entries:
        if value in owners:
            other = owners[value]
            # Report the value that was given, not the default.
            path, other = (path, other) if path in source.locations else (other, path)
            raise _error(
                source.locate(path), f"{dotted(path)}: {message.format(value, dotted(other))}"
            )
        owners[value] = path


def _first_error(error: ValidationError, source: _Source) -> ConfigurationError:
    """Return the error for the first problem in the file."""
    problems = []
    for details in error.errors(include_url=False):
        path = tuple(str(part) for part in details["loc"] if part != "[key]")
        reason = f"{dotted(path)} {_describe(details, path)}"
        problems.append((source.locate(path), reason, path in source.locations))
    # A default that follows from an invalid value is invalid too, and not worth reporting.
    given = [problem for problem in problems if problem[2]] or problems
    location, reason, _ = min(given, key=lambda problem: _line(problem[0]))
    more = f" (and {len(given) - 1} more)" if len(given) > 1 else ""
    return _error(location, f"{reason}{more}")


def _describe(details: Any, path: KeyPath) -> str:
    kind, given, context = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "extra_forbidden":
        return f"is not a known key{did_you_mean(path[-1], _siblings(path))}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        # The value of a variable may be a secret.
        is_hidden = path[2:-1] == ("environment",) and given != path[-1]
        return str(context["error"]) if is_hidden else f"{context['error']}: {given!r}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if "ge" in context else "at most"
        return f"must be {bound} {context.get('ge', context.get('le'))}, not {given}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {given!r}"
    names = {
        "string": "text",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "sequence_str": "a list",
        "is_instance_of": "a list",
    }
    expected = names.get(kind.removesuffix("_type"), "a mapping of keys to values")
    return f"must be {expected}, not {kind_of(given)}"


def _siblings(path: KeyPath) -> list[str]:
    model = _SECTIONS.get(path[:-1]) or _SECTIONS.get((*path[:-2], "*"))
    return list(model.model_fields) if model else []


def _line(location: str) -> int:
    number = location.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _error(location: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{location}: {reason}", hint=_HINT)
