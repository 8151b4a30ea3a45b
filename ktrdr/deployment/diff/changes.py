"""What a deploy would change on a host: images, settings, files, containers."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

from ktrdr.deployment.deploy.comparison import (
    CONFIGURATION_CHANGED,
    Action,
    Comparison,
    ServiceChange,
)
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.releases import compose_file as stack
from ktrdr.deployment.releases.checkout import Between
from ktrdr.deployment.releases.release import compose_file, env_file, memory_file
from ktrdr.errors import KtrdrError
from ktrdr.secret import REDACTED

# The signs that diff.sh puts before a file.
NEW, OTHER, LEFT_OVER = "+", "~", "-"
# Shown as images and files already.
_DERIVED: Final = re.compile(r"IMAGE_TAG|\w+_CONFIG_HASH")
_VARIABLE: Final = re.compile(r"\$\{(\w+)")
# Should somebody have written a secret into a file of a host: what follows such a name is veiled,
# unless it is a variable.
_CONFIDENTIAL: Final = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|private_?key|credentials?)\w*[\"']?\s*[:=]\s*)"
    r"([^\s$].*)"
)
_WITHIN_VARIABLE: Final = re.compile(r"\$\{\w*\Z")


@dataclass(frozen=True, slots=True)
class ImageChange:
    """An image that gives way to another.

    Attributes:
        old: The image with its tag that runs, or None where none does.
        new: The one that is to run.
        services: What runs it.
    """

    old: str | None
    new: str
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A variable of Compose with another value; None where it has none."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class FileChange:
    """A configuration file with other content.

    Attributes:
        path: Its path in the work directory.
        old: What is there, or None where it is new.
        new: What is to be there, or None where it is to be removed.
    """

    path: str
    old: bytes | None
    new: bytes | None

    @property
    def sign(self) -> str:
        """``+`` for a new one, ``-`` for one that goes, ``~`` for one that changes."""
        if self.old is None:
            return NEW
        return LEFT_OVER if self.new is None else OTHER

    def diff(self) -> tuple[str, ...]:
        """The lines of a unified diff, without its heading; empty for what is no text."""
        texts = [(content or b"").decode("utf-8", "replace") for content in (self.old, self.new)]
        if any("\0" in text for text in texts):
            return ()
        old, new = (text.splitlines() for text in texts)
        lines = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
        return tuple(_CONFIDENTIAL.sub(_veil, line) for line in lines)


@dataclass(frozen=True, slots=True)
class Difference:
    """A release against what is on a host.

    Attributes:
        place: Which host.
        plan: What would be deployed.
        error: Why the host could not be looked at; then all that follows is empty.
        services: What would become of each service, and why.
        images: The images that would change.
        settings: What Compose would be told otherwise.
        files: The configuration files that would change.
        losses: What could be lost, each in one sentence.
        unfinished: Whether an earlier deploy stopped in the middle, so that the next goes through
            all of it again.
        commits: The commits from each tag that runs to that of the release; None where git here
            does not know both.
        notes: What the operator should know of how this came about.
    """

    place: Place
    plan: Plan
    error: KtrdrError | None = None
    services: tuple[ServiceChange, ...] = ()
    images: tuple[ImageChange, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    losses: tuple[str, ...] = ()
    unfinished: bool = False
    commits: Mapping[str, Between | None] | None = None
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether a deploy would change anything."""
        return bool(self.files or self.unfinished) or any(
            change.action is not Action.UNCHANGED for change in self.services
        )


def images(plan: Plan, comparison: Comparison) -> Iterator[ImageChange]:
    """The images that change, each once."""
    found: dict[tuple[str | None, str], list[str]] = {}
    for service in plan.wanted:
        container = comparison.before.get(service.name)
        old = container.image if container else None
        if old != service.image:
            found.setdefault((old, service.image), []).append(service.name)
    for (old, new), services in found.items():
        yield ImageChange(old, new, tuple(services))


def files(plan: Plan, lines: Iterable[str]) -> Iterator[FileChange]:
    """The files that differ, from the output of ``diff.sh``."""
    for line in lines:
        sign, _, rest = line.partition(" ")
        path, _, encoded = (rest, "", "") if sign == NEW else rest.rpartition(" ")
        if sign in (NEW, OTHER, LEFT_OVER) and path:
            old = None if sign == NEW else _decoded(encoded)
            yield FileChange(path, old, plan.release.files.get(path))


def settings(
    plan: Plan, changes: Iterable[FileChange], recorded: Mapping[str, str] | None
) -> Iterator[SettingChange]:
    """What Compose is told otherwise than before, by name.

    Args:
        plan: What is to be deployed.
        changes: The files that differ.
        recorded: What the last deploy passed on of the inventory's values, or None where that is
            not known: then only those of the settings' file are compared.
    """
    given = plan.release.settings(plan.site.target)
    before = _settings_before(plan, changes)
    if recorded is not None:
        given |= dict(plan.site.settings)
        before |= recorded
    for name in sorted({*before, *given}):
        old, new = before.get(name), given.get(name)
        if old != new and not _DERIVED.fullmatch(name):
            yield SettingChange(name, *(_veiled(name, value) for value in (old, new)))


def _settings_before(plan: Plan, changes: Iterable[FileChange]) -> dict[str, str]:
    name = env_file(plan.site.target)
    change = next((change for change in changes if change.path == name), None)
    content = plan.release.files.get(name, b"") if change is None else change.old
    return stack.read_settings((content or b"").decode("utf-8", "replace").encode())


def explained(
    plan: Plan,
    change: ServiceChange,
    files: Sequence[FileChange],
    altered: Iterable[str],
    *,
    rotated: bool = False,
) -> ServiceChange:
    """A change of a service's configuration with its reason, as far as that can be seen.

    Args:
        plan: What is to be deployed.
        change: What becomes of the service.
        files: The files that differ.
        altered: The variables of Compose with another value.
        rotated: Whether its secrets are others.
    """
    if change.reason != CONFIGURATION_CHANGED:
        return change
    name = compose_file(plan.site.target)
    new = _definition(plan.release.files.get(name), change.service)
    old = next((_definition(f.old, change.service) for f in files if f.path == name), new)
    used = set(_VARIABLE.findall(str(new)))
    reasons = [f"its definition in {name}"] if old != new else []
    memory = memory_file(plan.site.target)
    if plan.site.in_memory and any(file.path == memory for file in files):
        reasons.append(memory)
    reasons += [variable for variable in sorted(altered) if variable in used]
    reasons += [file.path for file in files if _mounts(new, file.path)]
    reasons += ["its secrets"] if rotated else []
    reason = f"changed: {', '.join(reasons)}" if reasons else change.reason
    return replace(change, reason=reason)


def _mounts(definition: Any, path: str) -> bool:
    """Whether a service sees a file of the work directory."""
    volumes = definition.get("volumes") if isinstance(definition, Mapping) else None
    sources = (str(volume).partition(":")[0] for volume in volumes or ())
    return any(f"./{path}" == each or f"./{path}".startswith(f"{each}/") for each in sources)


def _definition(content: bytes | None, service: str) -> Any:
    try:
        return (yaml.safe_load(content or b"") or {}).get("services", {}).get(service)
    except (yaml.YAMLError, AttributeError):
        return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _veiled(name: str, value: str | None) -> str | None:
    return value and (REDACTED if _CONFIDENTIAL.search(f"{name}=x") else value)


def _veil(found: re.Match[str]) -> str:
    within_variable = _WITHIN_VARIABLE.search(found.string, 0, found.start())
    return found[0] if within_variable else f"{found[1]}{REDACTED}"
