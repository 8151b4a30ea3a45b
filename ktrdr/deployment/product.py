"""Interface between the deploy engine and the software that it deploys.

The engine knows hosts, Compose projects, files, images, secrets by name, plans, locks, histories,
and the health of containers. A `Product` knows the rest. `ktrdr.deployment.homelab` has the only
implementation; an import contract keeps the engine from importing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.health import ExpectedService, HealthProblem
from ktrdr.deployment.hosts.host import Host, HostConfig
from ktrdr.deployment.hosts.problems import CheckResult
from ktrdr.deployment.releases.release import Release, Service
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.secret import Secret

if TYPE_CHECKING:
    from ktrdr.deployment.deploy.comparison import Comparison, ServiceChange
    from ktrdr.deployment.deploy.host_deployment import HostDeployment
    from ktrdr.deployment.deploy.plan import Plan
    from ktrdr.deployment.deploy.step_errors import ErrorPattern
    from ktrdr.deployment.hosts.history import HistoryEntry
    from ktrdr.schemas import Operation, Worker

# Variable that holds the login at the registry in scripts, so that no file holds it.
REGISTRY_LOGIN: Final = "DOCKER_AUTH_CONFIG"
TOKEN_HINT: Final = (
    "GHCR takes only a classic personal access token (ghp_…) with the scope read:packages as "  # noqa: S105  # no value
    "ghcr_token, no fine-grained one."
)


class SecretSource(Protocol):
    """Source of secrets by name."""

    def fetch(self) -> Mapping[str, Secret]:
        """Fetch all fields by name, with one call to the source.

        Raises:
            SecretsError: The secrets cannot be read; the message says why and how to fix it.
        """


class Backend(Protocol):
    """Requests of a deploy to the product's own server."""

    def set_credentials(self, fields: Mapping[str, Secret]) -> None:
        """Set the secrets that later requests sign in with; send nothing."""

    def workers(self) -> Sequence[Worker]:
        """Return all registered workers.

        Raises:
            KtrdrError: The backend cannot be asked.
        """

    def operations(self, worker_id: str) -> Sequence[Operation]:
        """Return the newest operations that ran last on a worker.

        Raises:
            KtrdrError: The backend cannot be asked.
        """

    def drain(self, node: str) -> None:
        """Give a node no new operations."""

    def undrain(self, node: str) -> None:
        """Give a node new operations again; ignore a node that is not drained."""


@dataclass(frozen=True, slots=True)
class ScriptExtensions:
    """Extensions of the scripts for one host, which define the hooks of ``scripts/lib/hooks.sh``.

    Attributes:
        health: Script that asks a service of our own for its health document.
        secrets: Script that checks secrets, and exports what Compose's hashes depend on.
        delivery: Script that delivers secrets to the containers, rotates them, and removes them.
        options: Options of `secrets`.
        carried_secrets: Secret variables that `secrets` takes over from the running containers.
    """

    health: str
    secrets: str
    delivery: str
    options: tuple[str, ...] = ()
    carried_secrets: tuple[str, ...] = ()


class Product(Protocol):
    """Knowledge of the deployed software."""

    @property
    def hosts(self) -> Sequence[Host]:
        """Return all hosts, in the order in which they are deployed."""

    @property
    def minimum_free_mb(self) -> int:
        """Return the free disk space that a deploy needs (MiB)."""

    def configure(
        self, host: Host, release: Release, scale: int | None = None, *, is_kept: bool = False
    ) -> HostConfig:
        """Return the configuration of a host for a release.

        Args:
            host: The host.
            release: The release.
            scale: Number of workers of each type; None for the inventory's numbers.
            is_kept: Whether the host has kept the release, whose own choices then count.
        """

    def script_extensions(self, host: Host) -> ScriptExtensions:
        """Return the extensions of the scripts for a host."""

    @property
    def registry(self) -> str:
        """Return the name of the registry that holds the images of our own programs."""

    def is_own_image(self, image: str) -> bool:
        """Return whether an image, with any tag, holds our own programs."""

    def expected_service(self, service: Service, config: HostConfig, image: str) -> ExpectedService:
        """Return what a service of a compose file is expected to run, with its final image."""

    def read_secrets(self, source: SecretSource, plans: Sequence[Plan]) -> Mapping[str, Secret]:
        """Read and check the fields that plans need, with one call to the source.

        Raises:
            SecretsError: A field cannot be read or used.
        """

    def check_secrets(
        self, source: SecretSource, plans: Sequence[Plan]
    ) -> tuple[Sequence[CheckResult], Mapping[str, Secret]]:
        """Check each field that plans need, with one call to the source.

        Returns:
            The result for each field, and all fields that are confidential, by name.

        Raises:
            SecretsError: The source cannot be read.
        """

    def registry_login(self, fields: Mapping[str, Secret]) -> Secret | None:
        """Return the login at the registry, or None if the fields hold no usable token."""

    def secret_values(
        self, fields: Mapping[str, Secret], plan: Plan, *, now: datetime
    ) -> Mapping[str, Secret]:
        """Return the secret variables that a plan's scripts export."""

    def secrets_to_scrub(
        self,
        fields: Mapping[str, Secret],
        values: Iterable[Mapping[str, Secret]],
        plans: Iterable[Plan],
    ) -> tuple[Secret, ...]:
        """Return the secrets that are removed from all output of hosts."""

    def required_connections(self, plan: Plan, plans: Iterable[Plan]) -> Iterable[tuple[str, int]]:
        """Return the addresses and ports on other hosts that a plan's containers connect to.

        Args:
            plan: The plan.
            plans: The plans of all hosts.
        """

    def check_running(self, plan: Plan, transport: Transport) -> Iterable[CheckResult]:
        """Yield the result of each of the product's own checks of what a host runs.

        Raises:
            HostUnreachable: The host cannot be reached.
        """

    def check_report(
        self, service: ExpectedService, report: Mapping[str, Any] | None, tag: str
    ) -> HealthProblem | None:
        """Return the problem that a health report of one of our services shows, if any.

        Args:
            service: The service.
            report: Its health report; None if it gave none.
            tag: Image tag that the report must name.
        """

    def unfit_workers(
        self, plan: Plan, backend: Backend, since: datetime | None
    ) -> Sequence[HealthProblem]:
        """Return a problem for each worker of a plan that the backend does not list yet.

        If a time is given, also for each worker on which most operations failed since then.

        Raises:
            KtrdrError: The backend cannot be asked.
        """

    def destructive_effects(
        self,
        changes: Sequence[ServiceChange],
        before: Snapshot,
        reports: Mapping[str, Mapping[str, Any]],
        *,
        volumes: Sequence[str] | None = None,
        history: Sequence[HistoryEntry] = (),
    ) -> Iterable[str]:
        """Return the interruptions and losses that changes cause, one sentence each.

        Args:
            changes: The changes.
            before: Containers that exist.
            reports: Health reports of services.
            volumes: Volumes that exist; None if they are unknown.
            history: Deploys that the host remembers.
        """

    def check_schema(
        self, prepared: Sequence[tuple[Plan, Comparison]], transport: Transport
    ) -> None:
        """Refuse releases that cannot work with the database any more.

        Raises:
            Conflict: A migration removed what a release needs from the database.
        """

    def drained(
        self, deployment: HostDeployment, backend: Backend, timeout_s: float
    ) -> AbstractContextManager[None]:
        """Give a host no new operations within a block; first wait for running ones.

        Raises:
            KtrdrError: The backend cannot be asked.
        """

    def rotation_warnings(
        self, sections: Mapping[str, Sequence[str]], plan: Plan, later_nodes: Sequence[str]
    ) -> Iterable[str]:
        """Return warnings for the operator after secrets were rotated, one sentence each."""

    @property
    def fetch_error_phases(self) -> Sequence[ErrorPattern]:
        """Return the errors of the product's own sections of a fetch, by the section's title."""

    @property
    def apply_error_patterns(self) -> Sequence[ErrorPattern]:
        """Return the failures of an apply that only the product can explain."""
