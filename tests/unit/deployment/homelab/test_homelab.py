"""KTRDR as the product that the deploy engine deploys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import HttpUrl

from ktrdr.deployment.deploy.comparison import CONFIGURATION_CHANGED, Action, ServiceChange
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.deploy.step_errors import apply_error, fetch_error
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.containers import Snapshot
from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.product import Backend, Product
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import DeploymentFailed, KtrdrError, SecretsError
from ktrdr.schemas import WorkerRegistration
from ktrdr.schemas.workers import WorkerType
from ktrdr.secret import Secret
from ktrdr.tokens import Keyring, create_node_token
from tests.unit.deployment.conftest import NOW, TAG, running_container
from tests.unit.deployment.harness import SimulatedBackend
from tests.unit.deployment.histories import history_entry

OPERATION = {"current_operation_id": "op-1"}


def test_a_homelab_implements_the_product_of_the_engine(inventory: Inventory, planned) -> None:
    """The type checker compares the signatures; this test only needs to be typed."""
    product: Product = Homelab(inventory)
    backend: Backend = SimulatedBackend()
    plan: Plan = planned()
    assert product.unfit_workers(plan, backend, None) == ()


def test_the_core_is_deployed_before_the_worker_nodes(product: Homelab, release: Release) -> None:
    assert [host.name for host in product.hosts] == ["core", "workers B", "workers C"]
    ranks = [product.configure(host, release).rank for host in product.hosts]
    assert ranks == [0, 1, 1]


def test_only_worker_nodes_mount_the_shared_directory_and_mint_no_tokens(product, release) -> None:
    core, node, _ = (product.configure(host, release) for host in product.hosts)
    assert (core.is_share_mounted, node.is_share_mounted) == (False, True)
    assert "JWT_SECRET" in core.secrets
    assert "JWT_SECRET" not in node.secrets
    assert (core.apply_secrets, node.apply_secrets) == (("DB_PASSWORD_VERIFIER",), ())


def test_only_the_core_has_tokens_that_overlap(product: Homelab) -> None:
    core, node, _ = (product.script_extensions(host) for host in product.hosts)
    assert core.options == ("--token-overlap", "86400")
    assert core.carried_secrets == ("JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_UNTIL")
    assert (node.options, node.carried_secrets) == ((), ())
    assert core.health == node.health


def test_the_scale_of_a_node_selects_profiles(product, release) -> None:
    core, b, c = (product.configure(host, release) for host in product.hosts)
    assert (core.scale_profiles, b.scale_profiles) == (("nfs",), ())
    assert c.scale_profiles == ("scale-2",)
    assert product.configure(c.host, release, 3).scale_profiles == ("scale-2", "scale-3")


def test_an_external_share_is_mounted_on_the_core_too_and_served_by_no_container(
    external: Homelab, release: Release
) -> None:
    core, b, _ = (external.configure(host, release) for host in external.hosts)
    assert core.is_share_mounted
    assert core.is_share_external
    assert b.is_share_external
    assert core.scale_profiles == ()
    assert dict(core.settings)["COMPOSE_PROFILES"] == "", "it wins over that of .env.core"
    ports = {port for _, port in external.required_connections(_plan(external, release), ())}
    assert 2049 not in ports


def _plan(product: Homelab, release: Release) -> Plan:
    deploy_id = DeployId("r1", "ada@laptop", NOW)
    return make_plan(product, product.hosts[1], release, deploy_id, DeployOptions())


def test_own_images_are_recognised_with_any_tag(product) -> None:
    assert product.is_own_image(f"ghcr.io/ktrdr/ktrdr-backend:{TAG}")
    assert product.is_own_image("ghcr.io/ktrdr/ktrdr-backend:another")
    assert not product.is_own_image("prom/prometheus:v3")
    assert not product.is_own_image("ghcr.io/ktrdr/ktrdr-backend-x:another")


def test_workers_are_expected_to_register_their_host_and_port(planned) -> None:
    backtest, training = planned("workers").expected
    assert (backtest.worker_url, training.worker_url) == (
        "http://workers-b.lab.test:5003",
        "http://workers-b.lab.test:5005",
    )
    assert all(service.reports_version for service in (backtest, training))
    core = {service.name: service for service in planned("core").expected}
    assert {name for name, service in core.items() if service.reports_version} == {"backend"}
    assert not any(service.worker_url for service in core.values())


def test_ssh_and_the_network_may_know_a_host_by_different_names(release, deploy_id) -> None:
    inventory = Inventory.model_validate(
        add_defaults(
            {
                "core": {"host": "Core.lan", "ssh_host": "pve-core"},
                "workers": {
                    "B": {"host": "Box.lan", "ssh_host": "pve-b"},
                    "C": {"host": "10.0.0.3"},
                },
            }
        )
    )
    product = Homelab(inventory)
    plans = [
        make_plan(product, host, release, deploy_id, DeployOptions()) for host in product.hosts
    ]
    core, b, _ = plans
    assert [plan.host.address for plan in plans] == ["pve-core", "pve-b", "10.0.0.3"]
    assert {step.host for step in b.steps} == {"pve-b"}
    assert b.expected[0].worker_url == "http://box.lan:5003"
    assert ("box.lan", 5003) in product.required_connections(core, plans)
    assert ("core.lan", 8000) in product.required_connections(b, plans)
    settings = dict(b.config.settings)
    assert settings["WORKER_HOSTNAME"] == "box.lan"
    assert settings["KTRDR_API_URL"] == "http://core.lan:8000"
    assert (core.config.peers, b.config.peers) == (("box.lan",), ("core.lan",)), "no addresses"


def test_the_backend_accepts_the_workers_of_a_host_with_capitals(release, deploy_id) -> None:
    inventory = Inventory.model_validate(
        add_defaults({"workers": {"B": {"host": "Workers-B.lan"}}})
    )
    product, key = Homelab(inventory), Secret("k" * 40)
    plan = make_plan(product, product.hosts[1], release, deploy_id, DeployOptions())
    fields = {"jwt_secret": key, "ghcr_token": Secret("ghp_0123")}
    now = datetime.now(UTC)
    token = product.secret_values(fields, plan, now=now)["WORKER_TOKEN"]
    former = create_node_token(key, "Workers-B.lan", now=now)
    registration = WorkerRegistration(
        worker_id="w",
        worker_type=WorkerType.BACKTESTING,
        endpoint_url=HttpUrl("http://Workers-B.lan:5003"),
        version=TAG,
    )
    assert plan.expected[0].worker_url == str(registration.endpoint_url).rstrip("/")
    # Only this test needs FastAPI, which takes long to import.
    from ktrdr.api.auth import require_own_node

    for each in (token, former):
        require_own_node(Keyring(key).verify(each.reveal(), now), registration)


# ----------------------------------------------------------------------------- destructive effects


@pytest.mark.parametrize(
    ("change", "before"),
    [
        (
            ServiceChange("db", Action.RECREATED, CONFIGURATION_CHANGED),
            {"db": running_container("db", status="exited")},
        ),
        (ServiceChange("db", Action.CREATED, "does not exist yet"), {}),
        (ServiceChange("db", Action.UNCHANGED), {"db": running_container("db")}),
        (
            ServiceChange("backend", Action.RECREATED, "a → b"),
            {"backend": running_container("backend")},
        ),
    ],
    ids=["stopped database", "new database", "unchanged database", "backend"],
)
def test_other_changes_than_the_restart_of_a_running_database_are_not_destructive(
    product: Homelab, change: ServiceChange, before: Snapshot
) -> None:
    assert tuple(product.destructive_effects([change], before, {})) == ()


def test_the_restart_of_a_running_database_is_destructive(product: Homelab) -> None:
    change = ServiceChange("db", Action.RECREATED, CONFIGURATION_CHANGED)
    (effect,) = product.destructive_effects([change], {"db": running_container("db")}, {})
    assert effect == (
        "the database will be restarted (its configuration has changed), "
        "which interrupts all its users"
    )


@pytest.mark.parametrize(
    ("volumes", "history", "is_lost"),
    [
        ([], [history_entry(1)], True),
        (["ktrdr-core_grafana_data"], [history_entry(1)], True),
        (["ktrdr-core_postgres_data"], [history_entry(1)], False),
        (None, [history_entry(1)], False),
        ([], [], False),
        ([], [history_entry(1, outcome=DeployOutcome.FAILED)], False),
    ],
)
def test_a_new_database_under_a_history_of_good_releases_is_a_loss(
    product: Homelab, volumes: list[str] | None, history: list[HistoryEntry], is_lost: bool
) -> None:
    change = ServiceChange("db", Action.CREATED, "does not exist yet")
    effects = product.destructive_effects([change], {}, {}, volumes=volumes, history=history)
    expected = ["the database of earlier releases is gone with its volume: a new, empty one"]
    assert [each.partition(" will")[0] for each in effects] == expected * is_lost


@pytest.mark.parametrize(
    ("action", "health", "effects"),
    [
        (Action.REMOVED, "healthy", 1),
        (Action.REMOVED, "unhealthy", 0),
        (Action.RECREATED, "healthy", 0),
    ],
)
def test_only_the_removal_of_a_healthy_nfs_server_is_destructive(
    product: Homelab, action: Action, health: str, effects: int
) -> None:
    change = ServiceChange("nfs-server", action, "core.nfs is external")
    before = {"nfs-server": running_container("nfs-server", health=health)}
    assert len(list(product.destructive_effects([change], before, {}))) == effects
    created = ServiceChange("nfs-server", Action.CREATED, "does not exist yet")
    assert tuple(product.destructive_effects([created], {}, {})) == ()


def test_only_the_removal_of_a_busy_worker_is_destructive(product: Homelab) -> None:
    reports: dict[str, dict[str, Any]] = {
        "backtest-worker-2": OPERATION,
        "training-worker-2": {"current_operation_id": None},
        "backtest-worker-1": OPERATION,
    }
    changes = [
        ServiceChange("backtest-worker-1", Action.RECREATED, "a → b"),
        ServiceChange("backtest-worker-2", Action.REMOVED, "beyond the scale"),
        ServiceChange("training-worker-2", Action.REMOVED, "beyond the scale"),
        ServiceChange("backtest-worker-3", Action.REMOVED, "beyond the scale"),
    ]
    assert tuple(product.destructive_effects(changes, {}, reports)) == (
        "backtest-worker-2 will be stopped while it is running op-1",
    )


# ------------------------------------------------------------------------------- rotated secrets


def test_only_the_core_rotates_secrets_of_the_workers(product: Homelab, planned) -> None:
    sections = {"rotated": ["db_password"]}
    core = product.rotation_warnings(sections, planned("core"), ["B"])
    assert list(core) == [
        "the workers of C still use the former db_password: run `ktrdr deploy workers C`"
    ]
    assert list(product.rotation_warnings(sections, planned("workers"), [])) == []


def test_the_warning_names_the_overlap_of_the_inventory(inventory, planned) -> None:
    secrets = inventory.secrets.model_copy(update={"overlap_hours": 3})
    product = Homelab(inventory.model_copy(update={"secrets": secrets}))
    (warning,) = product.rotation_warnings({"rotated": ["jwt_secret"]}, planned("core"), ["B", "C"])
    assert "stay valid for another 3 h" in warning


# -------------------------------------------------------------------------------- explained errors


def test_a_renamed_database_role_is_explained(planned) -> None:
    error = fetch_error(planned(), "role", RemoteResult(1, "== role\n", "", 0.1))
    assert isinstance(error, SecretsError)
    assert error.message == (
        "db_username was changed in the vault, but the database on backend.lab.test belongs to "
        "the role of the former name"
    )


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        (
            'FATAL:  role "ada" does not exist',
            SecretsError,
            "the database on backend.lab.test was created with a db_username that differs",
        ),
        (
            "Grafana did not take the new password",
            DeploymentFailed,
            "Grafana on backend.lab.test rejects the vault's grafana_password",
        ),
        (
            "the database does not accept connections",
            DeploymentFailed,
            "the database on backend.lab.test does not accept connections",
        ),
        (
            "Cannot connect to the Docker daemon\nthe database does not accept connections",
            DeploymentFailed,
            "the database on backend.lab.test does not accept connections",
        ),
        (
            "the database does not accept connections\nno space left on device",
            KtrdrError,
            "the disk of backend.lab.test is full",
        ),
    ],
)
def test_failures_of_the_products_own_parts_are_explained(planned, stderr, kind, message) -> None:
    error = apply_error(planned(), RemoteResult(1, "", stderr, 0.1))
    assert isinstance(error, kind)
    assert error.message.startswith(message)
    assert error.hint


def test_a_failure_that_no_pattern_explains_ends_with_its_last_line(planned) -> None:
    plan = planned()
    error = apply_error(plan, RemoteResult(1, "", "one\nError response from daemon: two.\n", 0.1))
    assert error.message == "Compose could not start core on backend.lab.test: two"
    silent = apply_error(plan, RemoteResult(7, "", "", 0.1))
    assert silent.message.endswith("exit code 7")
