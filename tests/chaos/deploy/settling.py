"""Wait for a host after a fault, until a release serves there and the deploy has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.chaos.deploy.command import wait_until
from tests.chaos.deploy.hosts import Host, VersionMonitor, stopped_services

# Maximum time, after the end of command and fault, until a release serves and the lock is free: the
# timeout for a silent connection (45 s), the grace period of containers (35 s), and the time that
# they need to become healthy.
SERVES_WITHIN_S = 150.0
# Time after which a service that was not started after a boot counts as stopped.
STOPPED_FOR_S = 10.0


@dataclass
class HostSettling:
    """Wait for a host, and its result.

    Attributes:
        monitor: Monitor of the host.
        may_stay_stopped: True if services may stay stopped until the next deploy.
        is_stopped: True if they do.
        serving_s: Time until all services were healthy (s).
        lock_free_s: Time until the lock was free (s).
        problems: Violations of guarantees.
    """

    monitor: VersionMonitor
    may_stay_stopped: bool = False
    is_stopped: bool = False
    serving_s: float = 0.0
    lock_free_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    _stopped_since: float | None = None

    def wait(self) -> None:
        """Wait until the host serves, its lock is free, and no process of a deploy runs."""
        start, host = time.monotonic(), self.monitor.host
        if not wait_until(self._is_settled, SERVES_WITHIN_S):
            self.problems.append(f"{host.name}: neither release serves: {self._describe_state()}")
        self.serving_s = time.monotonic() - start

        def is_idle() -> bool:
            if host.lock_is_free() and not host.deploy_processes():
                return True
            self.lock_free_s = time.monotonic() - start
            return False

        if not wait_until(is_idle, SERVES_WITHIN_S):
            left = ", ".join(" ".join(each.words)[:80] for each in host.deploy_processes())
            free = "free" if host.lock_is_free() else "not free"
            self.problems.append(f"{host.name}: its lock is {free}, still running: {left}")

    def _is_settled(self) -> bool:
        host = self.monitor.host
        if all(self.monitor.versions.values()) and is_healthy(host):
            return not host.services_without_share()
        self.is_stopped = self.may_stay_stopped and self._stays_stopped(host)
        return self.is_stopped

    def _stays_stopped(self, host: Host) -> bool:
        """Return True if services have been stopped for a while, and nothing starts them."""
        is_stopped = (
            stopped_services(host.containers(), host.services)
            and not host.deploy_processes()
            and host.docker_answers()
        )
        now = time.monotonic()
        self._stopped_since = (self._stopped_since or now) if is_stopped else None
        return self._stopped_since is not None and now - self._stopped_since >= STOPPED_FOR_S

    def _describe_state(self) -> str:
        host = self.monitor.host
        containers = [
            f"{each['name']} {each['status']} {each['health']}" for each in host.containers()
        ]
        without = f"; without the share: {host.services_without_share()}"
        return f"{self.monitor.versions}; {'; '.join(containers)}{without}"


def is_healthy(host: Host) -> bool:
    """Return True if the host has exactly its services, and all run and are healthy."""
    services = {container["service"]: container for container in host.containers()}
    return set(services) == set(host.services) and all(
        container["status"] == "running" and container["health"] in ("", "healthy")
        for container in services.values()
    )
