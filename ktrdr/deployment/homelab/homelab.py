"""KTRDR on the hosts of an inventory: the product that the deploy engine deploys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from ktrdr.deployment.deploy.comparison import Action, Comparison, ServiceChange
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.step_errors import ErrorPattern
from ktrdr.deployment.homelab import health, hosts, rotation, schema
from ktrdr.deployment.homelab.connections import check_connections
from ktrdr.deployment.homelab.drain import drained
from ktrdr.deployment.homelab.secret_values import InventorySecrets
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.health import ExpectedService, HealthProblem
from ktrdr.deployment.hosts.history import HistoryEntry, last_good
from ktrdr.deployment.hosts.host import Host, HostConfig
from ktrdr.deployment.hosts.problems import CheckResult
from ktrdr.deployment.product import Backend, ScriptExtensions
from ktrdr.deployment.releases.release import Release, Service
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import DeploymentFailed, SecretsError

_SCRIPTS: Final = "homelab/scripts"
_HOUR_S: Final = 3600
# End of the name of the database's volume.
_DATA: Final = "_postgres_data"
_RENAME_HINT: Final = (
    "Put the former name back into the vault; docs/secrets.md describes how to rename a role."
)
_FETCH_ERRORS: Final = (
    ErrorPattern(
        # The section in which the core's extension compares the names.
        "role",
        SecretsError,
        "db_username was changed in the vault, but the database on {host} belongs to the role "
        "of the former name",
        _RENAME_HINT,
    ),
)
_APPLY_ERRORS: Final = (
    ErrorPattern(
        r'role "[^"]*" does not exist',
        SecretsError,
        "the database on {host} was created with a db_username that differs from the vault's",
        _RENAME_HINT,
    ),
    ErrorPattern(
        r"Grafana did not take the new password",
        DeploymentFailed,
        "Grafana on {host} rejects the vault's grafana_password",
        "Set the password manually, and run the command again. Grafana may reject short passwords, "
        "and all logins after five failed ones within five minutes.",
    ),
    ErrorPattern(
        r"the database does not accept connections",
        DeploymentFailed,
        "the database on {host} does not accept connections",
        "Check `docker logs ktrdr-core-db-1` on the host, and run the command again.",
    ),
)


@dataclass(frozen=True, slots=True)
class Homelab(InventorySecrets):
    """KTRDR on the hosts of an inventory; implements `ktrdr.deployment.product.Product`."""

    fetch_error_phases: ClassVar = _FETCH_ERRORS
    apply_error_patterns: ClassVar = _APPLY_ERRORS
    check_report = staticmethod(health.check_report)
    drained = staticmethod(drained)

    @property
    def hosts(self) -> Sequence[Host]:
        return hosts.all_hosts(self.inventory)

    @property
    def minimum_free_mb(self) -> int:
        return self.inventory.minimum_free_mb

    def configure(
        self, host: Host, release: Release, scale: int | None = None, *, is_kept: bool = False
    ) -> HostConfig:
        return hosts.configure_host(self.inventory, host, release, scale, is_kept=is_kept)

    @property
    def registry(self) -> str:
        return self.inventory.registry

    def is_own_image(self, image: str) -> bool:
        return hosts.is_own_image(self.inventory, image)

    def expected_service(self, service: Service, config: HostConfig, image: str) -> ExpectedService:
        port = service.worker_port
        url = f"http://{config.host.network_name}:{port}" if port else None
        return ExpectedService(service.name, image, self.is_own_image(image), url)

    def script_extensions(self, host: Host) -> ScriptExtensions:
        health_script = f"{_SCRIPTS}/service_health.sh"
        if host.node:
            return ScriptExtensions(
                health=health_script,
                secrets=f"{_SCRIPTS}/worker_secrets.sh",
                delivery=f"{_SCRIPTS}/worker_delivery.sh",
            )
        return ScriptExtensions(
            health=health_script,
            secrets=f"{_SCRIPTS}/core_secrets.sh",
            delivery=f"{_SCRIPTS}/core_delivery.sh",
            options=("--token-overlap", str(self._token_overlap_s)),
            carried_secrets=("JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_UNTIL"),
        )

    def required_connections(self, plan: Plan, plans: Iterable[Plan]) -> Iterable[tuple[str, int]]:
        core = self.inventory.core
        if plan.host.node:
            ports = (core.ports.postgres, core.ports.otlp, core.ports.backend)
            return [(core.host, port) for port in ports]
        return [
            (other.host.network_name, int(service.worker_url.rpartition(":")[2]))
            for other in plans
            for service in other.expected
            if service.worker_url
        ]

    def check_running(self, plan: Plan, transport: Transport) -> Iterable[CheckResult]:
        if not plan.host.node:
            yield from check_connections(self.inventory, plan.host, transport)

    def unfit_workers(
        self, plan: Plan, backend: Backend, since: datetime | None
    ) -> Sequence[HealthProblem]:
        if not any(service.worker_url for service in plan.expected):
            return ()
        workers, expected = backend.workers(), plan.expected
        problems = health.unregistered_workers(workers, expected, plan.release.tag)
        if problems or since is None:
            return problems
        return list(health.failing_workers(workers, expected, backend.operations, since))

    def destructive_effects(
        self,
        changes: Sequence[ServiceChange],
        before: Snapshot,
        reports: Mapping[str, Mapping[str, Any]],
        *,
        volumes: Sequence[str] | None = None,
        history: Sequence[HistoryEntry] = (),
    ) -> Iterator[str]:
        for change in changes:
            target = (change.service, change.action)
            if target == ("db", Action.RECREATED) and before["db"].is_running:
                reason = f"({change.reason}), which interrupts all its users"
                yield f"the database will be restarted {reason}"
            is_lost = volumes is not None and not any(each.endswith(_DATA) for each in volumes)
            if target == ("db", Action.CREATED) and is_lost and last_good(history, "db"):
                yield (
                    "the database of earlier releases is gone with its volume: a new, empty one "
                    "will be created, without operations, workers and revoked tokens"
                )
            # A server that never became healthy serves nobody.
            is_nfs_removed = target == (hosts.NFS_SERVER, Action.REMOVED)
            if is_nfs_removed and before[change.service].health == "healthy":
                yield "the NFS server will be removed: hosts lose the directories mounted from it"
            operation = reports.get(change.service, {}).get("current_operation_id")
            if change.action is Action.REMOVED and operation:
                yield f"{change.service} will be stopped while it is running {operation}"

    def check_schema(
        self, prepared: Sequence[tuple[Plan, Comparison]], transport: Transport
    ) -> None:
        core, *_ = self.hosts
        schema.check_deploy(core, prepared, transport)

    def rotation_warnings(
        self, sections: Mapping[str, Sequence[str]], plan: Plan, later_nodes: Sequence[str]
    ) -> Iterable[str]:
        return rotation.rotation_warnings(
            sections,
            # Only the core rotates what worker nodes use.
            nodes=() if plan.host.node else tuple(self.inventory.workers),
            later_nodes=later_nodes,
            overlap_s=self._token_overlap_s,
        )

    @property
    def _token_overlap_s(self) -> int:
        return self.inventory.secrets.overlap_hours * _HOUR_S
