"""Changes that a deploy would make on a host: images, settings, files, containers."""

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
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.releases.checkout import CommitRange
from ktrdr.deployment.releases.release import (
    compose_file_name,
    env_file_name,
    host_file_names,
    parse_env_file,
    tmpfs_file_name,
)
from ktrdr.errors import KtrdrError
from ktrdr.secret import REDACTED

# Signs that ``diff.sh`` prints before a file: new, changed, removed.
NEW, CHANGED, REMOVED = "+", "~", "-"
# These change with the images and files, which are shown anyway.
_DERIVED: Final = re.compile(r"IMAGE_TAG|\w+_CONFIG_HASH")
_VARIABLE: Final = re.compile(r"\$\{(\w+)")
# An operator may have written a secret into a file on a host. So values after such names are
# redacted, unless they are variables.
_CONFIDENTIAL: Final = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|private_?key|credentials?)\w*[\"']?\s*[:=]\s*)"
    r"([^\s$].*)"
)
_WITHIN_VARIABLE: Final = re.compile(r"\$\{\w*\Z")


@dataclass(frozen=True, slots=True)
class ImageChange:
    """Replacement of an image by another.

    Attributes:
        old: Image with tag that runs; None if no container runs yet.
        new: Image with tag that would run.
        services: Services that use it.
    """

    old: str | None
    new: str
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """Change of a variable for Compose; None stands for no value."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class FileChange:
    """Change of a configuration file.

    Attributes:
        path: Its path in the work directory.
        old: Its content on the host; None if it is new.
        new: Its content in the release; None if it would be removed.
    """

    path: str
    old: bytes | None
    new: bytes | None

    @property
    def marker(self) -> str:
        """Return ``+`` for a new file, ``-`` for a removed one, ``~`` for a changed one."""
        if self.old is None:
            return NEW
        return REMOVED if self.new is None else CHANGED

    def unified_diff(self) -> tuple[str, ...]:
        """Return the lines of a unified diff without its heading; none for a binary file."""
        texts = [(content or b"").decode("utf-8", "replace") for content in (self.old, self.new)]
        if any("\0" in text for text in texts):
            return ()
        old, new = (text.splitlines() for text in texts)
        lines = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
        return tuple(_CONFIDENTIAL.sub(_redact, line) for line in lines)


@dataclass(frozen=True, slots=True)
class HostDiff:
    """Differences between a release and a host.

    Attributes:
        host: The host.
        plan: Plan of a deploy.
        error: Why the host could not be compared; the other fields are empty then.
        services: Change of each service, with its reason.
        images: Images that would change.
        settings: Variables for Compose that would change.
        files: Configuration files that would change.
        destructive_effects: Interruptions and losses, one sentence each.
        is_unfinished: Whether an earlier deploy was cut off, so that the next one repeats it.
        commits: Commits from each running tag to the release's; None if a tag is unknown here.
        notes: Limits of this comparison, one sentence each.
    """

    host: Host
    plan: Plan
    error: KtrdrError | None = None
    services: tuple[ServiceChange, ...] = ()
    images: tuple[ImageChange, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    destructive_effects: tuple[str, ...] = ()
    is_unfinished: bool = False
    commits: Mapping[str, CommitRange | None] | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_changes(self) -> bool:
        """Return whether a deploy would change anything."""
        return bool(self.files or self.is_unfinished) or any(
            change.action is not Action.UNCHANGED for change in self.services
        )


def image_changes(plan: Plan, comparison: Comparison) -> Iterator[ImageChange]:
    """Yield each change of an image once, with all services that use it."""
    changes: dict[tuple[str | None, str], list[str]] = {}
    for service in plan.expected:
        container = comparison.before.get(service.name)
        old = container.image if container else None
        if old != service.image:
            changes.setdefault((old, service.image), []).append(service.name)
    for (old, new), services in changes.items():
        yield ImageChange(old, new, tuple(services))


def parse_file_changes(plan: Plan, lines: Iterable[str]) -> Iterator[FileChange]:
    """Parse the files that differ, from the output of ``diff.sh``."""
    for line in lines:
        sign, _, rest = line.partition(" ")
        path, _, encoded = (rest, "", "") if sign == NEW else rest.rpartition(" ")
        if sign in (NEW, CHANGED, REMOVED) and path:
            old = None if sign == NEW else _decode_base64(encoded)
            yield FileChange(path, old, plan.release.files.get(path))


def setting_changes(
    plan: Plan, file_changes: Iterable[FileChange], recorded: Mapping[str, str] | None
) -> Iterator[SettingChange]:
    """Yield the variables for Compose that would change, by name.

    Args:
        plan: Plan of a deploy.
        file_changes: Files that differ.
        recorded: Inventory values of the last deploy. None if they are unknown: then only the
            values of the settings file are compared.
    """
    name = env_file_name(plan.host.stack)
    change = next((change for change in file_changes if change.path == name), None)
    content = plan.release.files.get(name, b"") if change is None else change.old
    before = parse_env_file((content or b"").decode("utf-8", "replace").encode())
    after = plan.release.settings(plan.host.stack)
    if recorded is not None:
        after |= dict(plan.config.settings)
        before |= recorded
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new and not _DERIVED.fullmatch(name):
            yield SettingChange(name, *(_redact_setting(name, value) for value in (old, new)))


def with_reason(
    plan: Plan,
    change: ServiceChange,
    files: Sequence[FileChange],
    changed_settings: Iterable[str],
    *,
    is_rotated: bool = False,
) -> ServiceChange:
    """Return a change of a service's configuration with its reason, as far as it is visible.

    Args:
        plan: Plan of a deploy.
        change: Change of the service.
        files: Files that differ.
        changed_settings: Names of the variables for Compose that change.
        is_rotated: Whether the service's secrets change.
    """
    if change.reason != CONFIGURATION_CHANGED:
        return change
    reasons, new = [], None
    for name in (*host_file_names(plan.host.stack), compose_file_name(plan.host.stack)):
        new = _parse_service(plan.release.files.get(name), change.service)
        old = next((_parse_service(f.old, change.service) for f in files if f.path == name), new)
        reasons += [f"its definition in {name}"] if old != new else []
    used = set(_VARIABLE.findall(str(new)))
    memory = tmpfs_file_name(plan.host.stack)
    if plan.config.secrets_in_memory and any(file.path == memory for file in files):
        reasons.append(memory)
    reasons += [variable for variable in sorted(changed_settings) if variable in used]
    reasons += [file.path for file in files if _is_mounted(new, file.path)]
    reasons += ["its secrets"] if is_rotated else []
    reason = f"changed: {', '.join(reasons)}" if reasons else change.reason
    return replace(change, reason=reason)


def _is_mounted(definition: Any, path: str) -> bool:
    """Return whether a service mounts a file of the work directory."""
    volumes = definition.get("volumes") if isinstance(definition, Mapping) else None
    sources = (str(volume).partition(":")[0] for volume in volumes or ())
    return any(f"./{path}" == each or f"./{path}".startswith(f"{each}/") for each in sources)


def _parse_service(content: bytes | None, service: str) -> Any:
    """Return the definition of a service in a compose file, or None if it is not readable."""
    try:
        return (yaml.safe_load(content or b"") or {}).get("services", {}).get(service)
    except (yaml.YAMLError, AttributeError):
        return None


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _redact_setting(name: str, value: str | None) -> str | None:
    return value and (REDACTED if _CONFIDENTIAL.search(f"{name}=x") else value)


def _redact(match: re.Match[str]) -> str:
    is_within_variable = _WITHIN_VARIABLE.search(match.string, 0, match.start())
    return match[0] if is_within_variable else f"{match[1]}{REDACTED}"
