"""Errors of failed steps: all such messages of a deploy, except those of the product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.health import HealthProblem
from ktrdr.deployment.product import TOKEN_HINT
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import ConfigurationError, DeploymentFailed, HostNotReady, ImageError, KtrdrError


class ErrorPattern(NamedTuple):
    """Translation of an error output into an error.

    Attributes:
        pattern: Regular expression that the output matches, ignoring case. For the product's own
            sections of a fetch, the title of the section.
        kind: Class of the error.
        message: Its message, with ``{host}``, ``{name}``, ``{image}`` and ``{reason}``.
        hint: Its hint, likewise.
    """

    pattern: str
    kind: type[KtrdrError]
    message: str
    hint: str


# The first pattern that matches counts, so a cause stands before its consequences.
_DISK_FULL: Final = ErrorPattern(
    r"no space left on device",
    HostNotReady,
    "the disk of {host} is full",
    "Free space on the host, for example with `ktrdr deploy prune {name}`.",
)
# dash gives no other reason for a failed write.
_DISK_UNWRITABLE: Final = ErrorPattern(
    r"\bI/O error|Input/output error",
    HostNotReady,
    "a disk of {host} cannot be written to: it is full or broken",
    "Check `df -h` and `dmesg` on the host, and run the command again.",
)
_DOCKER_STOPPED: Final = ErrorPattern(
    r"Cannot connect to the Docker daemon|failed to connect to the docker API",
    HostNotReady,
    "the Docker daemon of {host} stopped running",
    "Start it with `systemctl start docker` on the host, and run the command again.",
)
# Docker prints this, and goes on with its defaults.
_WARNING: Final = re.compile(r"^WARNING: Error .* config file.*\n?", re.MULTILINE)
_LOGIN_HINT: Final = (
    "Check whether the vault's ghcr_token has expired, and the inventory's registry_user and "
    f"image. {TOKEN_HINT}"
)
_PULL_PATTERNS: Final = (
    _DISK_FULL,
    ErrorPattern(
        # GHCR says this of images that were never pushed, too.
        r"denied|\b403\b|Forbidden",
        ImageError,
        "the registry rejects the login for {image}, or has no such image yet",
        f"If CI has not built it yet, wait, or start its run again. {_LOGIN_HINT}",
    ),
    ErrorPattern(
        r"unauthorized|authentication required|no basic auth credentials|\b401\b",
        ImageError,
        "the registry rejects the login for {image}",
        _LOGIN_HINT,
    ),
    ErrorPattern(
        r"manifest unknown|\bnot found\b(?! in \$PATH)|no such manifest|name unknown",
        ImageError,
        "the image {image} is not in the registry",
        "Wait until CI has built it, start its run again if it was cancelled, or select another "
        "with --tag.",
    ),
    ErrorPattern(
        r"connection refused|no such host|i/o timeout|timed? ?out|deadline exceeded|unreachable|"
        r"connection reset|server misbehaving|handshake|x509|\bEOF\b|\b50\d\b|"
        r"Internal Server Error|Bad Gateway|Service Unavailable|Too Many Requests|toomanyrequests",
        ImageError,
        "{host} cannot reach the registry for {image}: {reason}",
        "Try again when the registry responds, or run `docker pull {image}` there for details.",
    ),
)
_RUNC_REFUSED: Final = ErrorPattern(
    r"reopen fd \d+: permission denied",
    HostNotReady,
    "no container starts on {host}: {reason}",
    "AppArmor refuses what runc does since 1.3.3. Update lxc-pve on the Proxmox host to 6.0.5-2 or "
    "newer, and restart this LXC container.",
)
_APPLY_PATTERNS: Final = (
    _DISK_FULL,
    _DISK_UNWRITABLE,
    ErrorPattern(
        r"port is already allocated|address already in use",
        HostNotReady,
        "a port that the stack needs is in use on {host}: {reason}",
        "Find its owner with `ss -ltnp` on the host, or change the port in the inventory.",
    ),
    ErrorPattern(
        r"bind source path does not exist|invalid mount config",
        HostNotReady,
        "a directory that the stack mounts is missing on {host}: {reason}",
        "Run the command without --skip-validation: then ktrdr checks the directories and names "
        "the missing one.",
    ),
    ErrorPattern(
        r"is not in memory",
        HostNotReady,
        "the secrets of {host} cannot be kept in memory: {reason}",
        "Mount a tmpfs on /run/ktrdr, or set secrets.delivery to env.",
    ),
    _RUNC_REFUSED,
)
_NO_START: Final = ErrorPattern(
    "",
    HostNotReady,
    "no container starts on {host}: {reason}",
    "Run `docker run --rm IMAGE true` on the host for details. An LXC container of Proxmox needs "
    "`features: nesting=1,keyctl=1`.",
)
# A shell adds this to the number of the signal that ended a program.
_SIGNAL_BASE: Final = 128


def fetch_error(plan: Plan, phase: str, result: RemoteResult) -> KtrdrError:
    """Return the error of a failed fetch; no service has changed.

    Args:
        plan: The plan.
        phase: Section of the output in which the script failed.
        result: Result of the script.
    """
    if error := _match((_DOCKER_STOPPED,), plan, result):
        return error
    host, workdir = plan.host.address, plan.host.workdir
    if result.exit_code > _SIGNAL_BASE:
        return HostNotReady(
            f"the fetch on {host} was killed by signal {result.exit_code - _SIGNAL_BASE}",
            hint="Check the kernel log (`dmesg`, for a container on its own host): it may be out "
            "of memory.",
        )
    if phase == "stage":
        return HostNotReady(
            f"the configuration cannot be written to {workdir} on {host}: {_reason(result)}",
            hint="Run the command without --skip-validation: then ktrdr checks the directory.",
        )
    if phase == "pull":
        return _match(_PULL_PATTERNS, plan, result) or ImageError(
            f"{host} could not pull {_failed_image(plan, result)}: {_reason(result)}",
            hint=f"Run `docker pull {_failed_image(plan, result)}` on the host for details.",
        )
    for pattern in plan.product.fetch_error_phases:
        if pattern.pattern == phase:
            return _to_error(pattern, plan, result)
    return ConfigurationError(
        f"Compose on {host} rejects the release's configuration: {_reason(result)}",
        hint="Check it with `docker compose config`, or deploy another commit.",
    )


def start_error(plan: Plan, result: RemoteResult) -> KtrdrError:
    """Return the error of a host on which no container starts; nothing has changed."""
    patterns = (_DISK_FULL, _RUNC_REFUSED, _DOCKER_STOPPED)
    return _match(patterns, plan, result) or _to_error(_NO_START, plan, result)


def apply_error(plan: Plan, result: RemoteResult) -> KtrdrError:
    """Return the error of a failed apply."""
    patterns = (*_APPLY_PATTERNS, *plan.product.apply_error_patterns, _DOCKER_STOPPED)
    return _match(patterns, plan, result) or DeploymentFailed(
        f"Compose could not start {plan.host.name} on {plan.host.address}: {_reason(result)}",
        hint="Fix the cause and run the command again: it continues where this one stopped.",
    )


def query_error(plan: Plan, subject: str, result: RemoteResult) -> HostNotReady:
    """Return the error of a host that cannot be queried about a subject."""
    return HostNotReady(
        f"{plan.host.address} cannot be queried about its {subject}: {_reason(result)}",
        hint=f"Run `ssh {plan.host.address} docker ps` for details.",
    )


def unhealthy_error(
    plan: Plan, problems: Sequence[HealthProblem], timeout_s: float, verb: str = "become"
) -> DeploymentFailed:
    """Return the error of a release that is not healthy."""
    reasons = "; ".join(f"{problem.service} {problem.reason}" for problem in problems)
    is_fatal = any(problem.is_fatal for problem in problems)
    in_time = "" if is_fatal else f" within {timeout_s:g} s"
    return DeploymentFailed(
        f"{plan.host.name} on {plan.host.address} did not {verb} healthy{in_time}: {reasons}",
        hint="Its last log lines are above; fix the cause and deploy again, or go back with "
        "`ktrdr deploy rollback`.",
    )


def _match(patterns: Iterable[ErrorPattern], plan: Plan, result: RemoteResult) -> KtrdrError | None:
    output = _WARNING.sub("", result.stderr)
    for pattern in patterns:
        if re.search(pattern.pattern, output, re.IGNORECASE):
            return _to_error(pattern, plan, result)
    return None


def _to_error(pattern: ErrorPattern, plan: Plan, result: RemoteResult) -> KtrdrError:
    values = {
        "host": plan.host.address,
        "name": plan.host.name,
        "image": _failed_image(plan, result),
        "reason": _reason(result),
    }
    return pattern.kind(pattern.message.format(**values), hint=pattern.hint.format(**values))


def _failed_image(plan: Plan, result: RemoteResult) -> str:
    """Return the image that Compose complains about, or the release's own."""
    if match := re.search(r"Image (\S+) (?:Error|failed)", result.stderr):
        return match[1]
    named = [service.image for service in plan.expected if service.image in result.stderr]
    own = [service.image for service in plan.expected if service.reports_version]
    return next(iter([*named, *own]), "its images")


def _reason(result: RemoteResult) -> str:
    """Return the last line of the error output, without its prefix."""
    output = _WARNING.sub("", result.stderr)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines:
        return f"exit code {result.exit_code}"
    last = re.sub(r"^(Error response from daemon|Error|ERROR):\s*", "", lines[-1])
    # Each program on the way to the runtime adds a prefix.
    return last.rpartition("OCI runtime create failed: ")[2].rstrip(".")
