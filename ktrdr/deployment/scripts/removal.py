"""Lists and removes all that Compose has made for a project."""

from __future__ import annotations

from ktrdr.deployment.scripts.script import words
from ktrdr.deployment.scripts.sections import section


def belongings(project: str) -> str:
    """Prints, in sections, the names of the project's containers, networks and volumes."""
    return "\n".join(
        [
            section("containers"),
            words("docker", "ps", "--all", "--format", "{{.Names}}", *_of(project)),
            section("networks"),
            words("docker", "network", "ls", "--format", "{{.Name}}", *_of(project)),
            section("volumes"),
            words("docker", "volume", "ls", "--format", "{{.Name}}", *_of(project)),
        ]
    )


def remove(project: str, *, volumes: bool) -> str:
    """Removes the project's containers and networks, and its volumes only if asked to.

    Args:
        project: The Compose project.
        volumes: Whether the data goes, too.
    """
    containers = words("docker", "ps", "--all", "--quiet", *_of(project))
    networks = words("docker", "network", "ls", "--quiet", *_of(project))
    kept = words("docker", "volume", "ls", "--quiet", *_of(project))
    lines = [
        f"{containers} | xargs -r docker rm --force {'--volumes ' if volumes else ''}>/dev/null",
        f"{networks} | xargs -r docker network rm >/dev/null",
    ]
    if volumes:
        lines.append(f"{kept} | xargs -r docker volume rm >/dev/null")
    return "\n".join(lines)


def _of(project: str) -> tuple[str, ...]:
    """Also what Compose made for a single run."""
    return ("--filter", f"label=com.docker.compose.project={project}")
