"""Says in plain words why a step failed on a host. Every such message of a deploy stands here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.secret_steps import ROLE
from ktrdr.deployment.hosts.health import Trouble
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import (
    ConfigurationError,
    DeploymentFailed,
    HostNotReady,
    ImageError,
    KtrdrError,
    SecretsError,
)


class _Fault(NamedTuple):
    """One kind of failure: what Docker says, what it is, how we word it, and the remedy."""

    pattern: str
    kind: type[KtrdrError]
    message: str
    hint: str


# The first that fits is taken, so that a cause stands above its consequences.
_DISK_FULL: Final = _Fault(
    r"no space left on device",
    HostNotReady,
    "the disk of {host} is full",
    "Free space on the host, for example with `docker image prune --all`.",
)
# All that dash says of a failed write.
_UNWRITABLE: Final = _Fault(
    r"\bI/O error|Input/output error",
    HostNotReady,
    "a disk of {host} cannot be written to: it is full or broken",
    "Look at `df -h` and `dmesg` on the host, and run the command again.",
)
_DOCKER_AWAY: Final = _Fault(
    r"Cannot connect to the Docker daemon|failed to connect to the docker API",
    HostNotReady,
    "the Docker daemon of {host} stopped running",
    "Start it with `systemctl start docker` on the host, and run the command again.",
)
_PULLING: Final = (
    _DISK_FULL,
    _Fault(
        r"unauthorized|authentication required|no basic auth credentials|denied|"
        r"\b401\b|\b403\b|Forbidden",
        ImageError,
        "the registry refuses the login for {image}",
        "Check the vault's field ghcr_token (it needs the right read:packages, and may have "
        "expired) and the inventory's registry_user and image.",
    ),
    _Fault(
        r"manifest unknown|manifest for .* not found|\bnot found\b|no such manifest|name unknown",
        ImageError,
        "the image {image} is not in the registry",
        "Wait until CI has built it, or name another with --tag.",
    ),
    _Fault(
        r"connection refused|no such host|i/o timeout|timed? ?out|deadline exceeded|unreachable|"
        r"connection reset|server misbehaving|handshake|x509|\bEOF\b|\b50\d\b|"
        r"Internal Server Error|Bad Gateway|Service Unavailable|Too Many Requests|toomanyrequests",
        ImageError,
        "{host} cannot reach the registry for {image}: {reason}",
        "Try again when the registry answers; from the host, `docker pull {image}` shows more.",
    ),
)
_APPLYING: Final = (
    _DISK_FULL,
    _UNWRITABLE,
    _Fault(
        r"port is already allocated|address already in use",
        HostNotReady,
        "a port that the stack needs is taken on {host}: {reason}",
        "Find who has it with `ss -ltnp` on the host, or change the port in the inventory.",
    ),
    _Fault(
        r"bind source path does not exist|invalid mount config",
        HostNotReady,
        "a directory that the stack mounts is missing on {host}: {reason}",
        "Run the command without --skip-validation, which says which.",
    ),
    _Fault(
        r'role "[^"]*" does not exist',
        SecretsError,
        "the database on {host} was made for another db_username than the vault has",
        "Put the former name back into the vault; docs/secrets.md says how to rename a role by "
        "hand.",
    ),
    _Fault(
        r"Grafana did not take the new password",
        DeploymentFailed,
        "Grafana on {host} does not take the vault's grafana_password",
        "Set it by hand (Grafana may refuse a short one, or logins after five wrong ones within "
        "five minutes), and run the command again.",
    ),
    _Fault(
        r"the database does not accept connections",
        DeploymentFailed,
        "the database on {host} does not accept connections",
        "Look at `docker logs ktrdr-core-db-1` on the host, and run the command again.",
    ),
    _Fault(
        r"is not in memory",
        HostNotReady,
        "the secrets of {host} cannot be kept in memory: {reason}",
        "Mount a tmpfs on /run/ktrdr, or set secrets.delivery to env.",
    ),
    _DOCKER_AWAY,
)
# A shell adds the number of the signal that ended a program.
_SIGNALLED: Final = 128


def fetching_failed(plan: Plan, phase: str, result: RemoteResult) -> KtrdrError:
    """Why configuration or images could not be fetched; nothing that runs has changed.

    Args:
        plan: What was being deployed.
        phase: The section of the script that it failed in.
        result: What the script left behind.
    """
    if away := _classified((_DOCKER_AWAY,), plan, result):
        return away
    if result.exit_code > _SIGNALLED:
        return HostNotReady(
            f"what fetches the release on {plan.site.host} was ended there by signal "
            f"{result.exit_code - _SIGNALLED}",
            hint="Look into the host's kernel log (`dmesg`): it may be out of memory.",
        )
    if phase == "stage":
        return HostNotReady(
            f"the configuration cannot be put into {plan.site.workdir} on {plan.site.host}: "
            f"{_reason(result)}",
            hint="Run the command without --skip-validation, which looks at the directory.",
        )
    if phase == "pull":
        return _classified(_PULLING, plan, result) or ImageError(
            f"{plan.site.host} could not pull {_image(plan, result)}: {_reason(result)}",
            hint="From the host, `docker pull` of this image shows more.",
        )
    if phase == ROLE:
        return SecretsError(
            f"db_username was changed in the vault, and the database on {plan.site.host} belongs "
            "to the role that it named before",
            hint="Put the former name back into the vault; docs/secrets.md says how to rename a "
            "role by hand.",
        )
    return ConfigurationError(
        f"Compose on {plan.site.host} does not accept the release's configuration: "
        f"{_reason(result)}",
        hint="Check it with `docker compose config`, or deploy another commit.",
    )


def applying_failed(plan: Plan, result: RemoteResult) -> KtrdrError:
    """Why Compose could not bring the stack into its new form."""
    return _classified(_APPLYING, plan, result) or DeploymentFailed(
        f"Compose could not bring up {plan.site.name} on {plan.site.host}: {_reason(result)}",
        hint="Correct the cause and run the command again: it goes on where this one stopped.",
    )


def looking_failed(plan: Plan, what: str, result: RemoteResult) -> HostNotReady:
    """Why a host could not be asked about itself."""
    return HostNotReady(
        f"{plan.site.host} could not be asked about its {what}: {_reason(result)}",
        hint=f"Try `ssh {plan.site.host} docker ps`, which shows more.",
    )


def unhealthy(plan: Plan, troubles: Iterable[Trouble], waited_s: float) -> DeploymentFailed:
    """What is not well after a deploy."""
    listed = tuple(troubles)
    reasons = "; ".join(f"{trouble.service} {trouble.reason}" for trouble in listed)
    in_time = "" if any(t.final for t in listed) else f" within {waited_s:g} s"
    return DeploymentFailed(
        f"{plan.site.name} on {plan.site.host} did not become healthy{in_time}: {reasons}",
        hint="Its last log lines are above; correct the cause and deploy again, or go back with "
        "`ktrdr deploy rollback`.",
    )


def _classified(faults: Iterable[_Fault], plan: Plan, result: RemoteResult) -> KtrdrError | None:
    words = {
        "host": plan.site.host,
        "image": _image(plan, result),
        "reason": _reason(result),
    }
    for fault in faults:
        if re.search(fault.pattern, result.stderr, re.IGNORECASE):
            return fault.kind(fault.message.format(**words), hint=fault.hint.format(**words))
    return None


def _image(plan: Plan, result: RemoteResult) -> str:
    """The image that Compose complains about; by default the release's own."""
    found = re.search(r"Image (\S+) (?:Error|failed)", result.stderr)
    if found:
        return found[1]
    named = [service.image for service in plan.wanted if service.image in result.stderr]
    own = [service.image for service in plan.wanted if service.says_version]
    return next(iter([*named, *own]), "its images")


def _reason(result: RemoteResult) -> str:
    """The last thing that was said, without what every message begins with."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    if not lines:
        return f"it ended with exit code {result.exit_code}"
    last = re.sub(r"^(Error response from daemon|Error|ERROR):\s*", "", lines[-1])
    return last.rstrip(".")
