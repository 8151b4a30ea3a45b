"""In which order services of a stack are started and stopped."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.deployment.hosts.containers import Container


def levels(containers: Sequence[Container]) -> list[list[Container]]:
    """Groups that are started one after the other, each service after all that it depends on.

    What depends on one another in a circle comes together, last.
    """
    waiting = list(containers)
    found: list[list[Container]] = []
    while waiting:
        names = {container.service for container in waiting}
        ready = [container for container in waiting if names.isdisjoint(container.needs)] or waiting
        found.append(ready)
        waiting = [container for container in waiting if container not in ready]
    return found
