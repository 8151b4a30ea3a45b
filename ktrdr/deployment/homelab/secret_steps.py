"""Extensions of a deploy's scripts for KTRDR's own stacks, and their options.

The scripts beside this module extend those of ``ktrdr/deployment/scripts``, which call these hooks:

1. fetch, before Compose hashes the configuration: ``inspect_secrets`` and
   ``export_secret_settings``, which change nothing;
2. apply, before ``up``: ``before_up``; files in memory first, then the role of the database, right
   behind which the backend is replaced;
3. apply, after ``up``: ``after_up``; Grafana's password, and what is left of the other delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from ktrdr.deployment.homelab.host_config import Site
from ktrdr.deployment.releases.release import Target
from ktrdr.deployment.scripts.script import repeat

# The section of fetch that ends early where the role of the database has another name.
ROLE: Final = "role"
# What core_secrets.sh exports.
FORMER_TOKEN_SECRET: Final = ("JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_UNTIL")
# Where secrets are kept in a host's memory; deploy/tmpfs mounts directories below it.
SECRETS_ROOT: Final = "/run/ktrdr"
# The user that the image's programs run as.
CONTAINER_UID: Final = 10001
# The script with which our own services are asked what they say of themselves.
SERVICE_HEALTH: Final = "homelab/scripts/service_health.sh"
_STACKS: Final[Mapping[Target, str]] = {"core": "core", "workers": "worker"}
_HOUR_S: Final = 3600


def secrets_extension(target: Target) -> str:
    """Return the script that knows what a stack's configuration depends on beside the vault."""
    return f"homelab/scripts/{_STACKS[target]}_secrets.sh"


def delivery_extension(target: Target) -> str:
    """Return the script that gives a stack its secrets."""
    return f"homelab/scripts/{_STACKS[target]}_delivery.sh"


def secrets_directory(project: str) -> str:
    """Return the directory in a host's memory for the secrets of a project's containers."""
    return f"{SECRETS_ROOT}/{project}"


def secret_options(site: Site, image: str) -> tuple[str, ...]:
    """Return the options about secrets.

    Args:
        site: The host.
        image: An image with a shell that the host has once images are pulled.
    """
    overlap = ("--token-overlap", str(site.overlap_s)) if site.target == "core" else ()
    return (
        *("--secrets-delivery", "tmpfs" if site.in_memory else "env"),
        *("--secrets-directory", secrets_directory(site.project)),
        *("--secrets-image", image),
        *overlap,
    )


def secret_removal_options(target: Target, project: str, image: str) -> tuple[str, ...]:
    """Return the options with which all secrets of a stack are removed.

    Args:
        target: The stack.
        project: Its Compose project.
        image: An image with a shell that the host has.
    """
    services = ("backend", "grafana") if target == "core" else ()
    return (
        *repeat("--service", services),
        *("--secrets-directory", secrets_directory(project)),
        *("--secrets-image", image),
    )


def describe_rotation(
    site: Site, sections: Mapping[str, Sequence[str]], *, following: Collection[str] = ()
) -> Iterator[str]:
    """Yield a sentence for each thing that the operator should know after secrets have changed.

    Args:
        site: The host.
        sections: The output of the apply, by section.
        following: The worker nodes that the same command deploys, too.
    """
    rotated = {line.partition(" ")[0]: line for line in sections.get("rotated", ())}
    theirs = [name for name in ("db_password", "jwt_secret") if name in rotated]
    left = [node for node in site.nodes if node not in following]
    if theirs and left:
        whole = len(left) == len(site.nodes) > 1
        commands = [f"`ktrdr deploy workers {node}`" for node in (["all"] if whole else left)]
        whose = "the workers" if whole else f"the workers of {', '.join(left)}"
        yield f"{whose} still have the former {' and '.join(theirs)}: run {' and '.join(commands)}"
    if "jwt_secret" in rotated:
        yield _describe_overlap(site.overlap_s)
    if rotated.get("grafana_password", "").endswith("unknown"):
        yield (
            "Grafana's password could not be compared with the vault's, because Grafana or the "
            "backend did not answer; the next deploy of the core looks again"
        )


def _describe_overlap(overlap_s: int) -> str:
    if not overlap_s:
        return "tokens signed with the former jwt_secret are no longer good"
    return (
        f"tokens signed with the former jwt_secret are good for {overlap_s // _HOUR_S} h more: "
        "make new ones with `ktrdr token create` until then"
    )
