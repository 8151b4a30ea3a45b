"""Compose files: ports, limits, images, secrets and volumes of each service."""

from __future__ import annotations

import re

import pytest

PORT_TABLE = {
    "backtest-worker-1": (5003, None),
    "backtest-worker-2": (5004, "scale-2"),
    "training-worker-1": (5005, None),
    "training-worker-2": (5006, "scale-2"),
    "backtest-worker-3": (5007, "scale-3"),
    "training-worker-3": (5008, "scale-3"),
}
SECRETS = ("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD", "WORKER_TOKEN")


@pytest.fixture(params=["core", "workers"])
def stack(request):
    return request.getfixturevalue(request.param)


def test_the_core_stack_has_the_services_of_the_specification(core):
    assert set(core["services"]) == {
        "db",
        "backend",
        "prometheus",
        "grafana",
        "jaeger",
        "nfs-server",
    }


def test_workers_have_the_ports_and_profiles_of_the_port_table(workers):
    table = {}
    for name, service in workers["services"].items():
        (profile,) = service.get("profiles") or [None]
        table[name] = (int(service["environment"]["WORKER_PORT"]), profile)
    assert table == PORT_TABLE


def test_a_worker_is_registered_under_the_port_that_it_publishes(workers):
    for name, service in workers["services"].items():
        port, _ = PORT_TABLE[name]
        (published,) = service["ports"]
        assert published == f"${{WORKER_BIND_ADDRESS:-127.0.0.1}}:{port}:{port}"
        url = service["environment"]["WORKER_PUBLIC_BASE_URL"]
        assert url == f"http://${{WORKER_HOSTNAME:-localhost}}:{port}"


def test_workers_run_the_entry_point_and_have_the_limits_of_their_type(workers):
    shares = {"backtest": ("1", "3g"), "training": ("2", "5g")}
    types = {"backtest": "backtesting", "training": "training"}
    for name, service in workers["services"].items():
        kind = name.partition("-")[0]
        limits = service["deploy"]["resources"]["limits"]
        assert (limits["cpus"], limits["memory"]) == shares[kind]
        assert service["environment"]["WORKER_TYPE"] == types[kind]
        assert f"ktrdr.workers.{kind}:app" in service["command"][-1]


def test_every_service_runs_without_privileges_on_a_read_only_file_system(stack):
    for name, service in stack["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert "privileged" not in service, name
        assert service["deploy"]["resources"]["limits"]["memory"], name


def test_only_the_nfs_server_has_capabilities_and_only_four(core):
    having = {name: s["cap_add"] for name, s in core["services"].items() if "cap_add" in s}
    assert having == {"nfs-server": ["DAC_READ_SEARCH", "FOWNER", "SETGID", "SETUID"]}


def test_every_service_restarts_after_a_reboot_and_limits_its_log(stack):
    for name, service in stack["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name
        assert service["logging"]["options"]["max-file"], name


def test_every_service_has_at_least_30_seconds_to_stop(stack):
    for name, service in stack["services"].items():
        assert int(service["stop_grace_period"].removesuffix("s")) >= 30, name


def test_every_service_has_a_health_check(core, workers, root):
    # Our own images contain their health check.
    ours = {"backend", "nfs-server", *workers["services"]}
    for name, service in core["services"].items():
        assert ("healthcheck" in service) is (name not in ours), name
    for dockerfile in ("deploy/Dockerfile", "deploy/nfs-server/Dockerfile"):
        assert "\nHEALTHCHECK " in (root / dockerfile).read_text(encoding="utf-8")


def test_no_health_check_names_a_secret(core):
    for service in core["services"].values():
        assert "PASSWORD" not in str(service.get("healthcheck"))


def test_the_database_is_initialised_with_a_random_password(core):
    environment = core["services"]["db"]["environment"]
    assert environment["POSTGRES_PASSWORD_FILE"] == "/proc/sys/kernel/random/uuid"
    assert "POSTGRES_PASSWORD" not in environment


def test_third_party_images_are_pinned_to_a_full_version(core):
    for name in ("db", "prometheus", "grafana", "jaeger"):
        image = core["services"][name]["image"]
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+(-pg17)?", image), image


def test_the_major_version_of_postgresql_stays(core):
    # PostgreSQL 18 does not start with the data of 17, and its image would create an empty
    # database in another directory. docs/dependencies.md says how to change it.
    assert core["services"]["db"]["image"].endswith("-pg17")
    assert "postgres_data:/var/lib/postgresql/data" in core["services"]["db"]["volumes"]


def test_the_database_allows_as_many_connections_as_the_inventory_needs(core, dev):
    command = ["postgres", "-c", "max_connections=${POSTGRES_MAX_CONNECTIONS:-100}"]
    assert core["services"]["db"]["command"] == command
    assert "command" not in dev["services"]["db"]


def test_grafana_neither_downloads_nor_updates_plugins(core):
    environment = core["services"]["grafana"]["environment"]
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    # An update stops a bundled data source, and then cannot write to the read-only root.
    assert environment["GF_PLUGINS_PREINSTALL_AUTO_UPDATE"] == "false"
    assert core["services"]["grafana"]["read_only"] is True


def test_jaeger_has_major_version_2(core):
    assert core["services"]["jaeger"]["image"].startswith("jaegertracing/jaeger:2.")


def test_our_images_have_the_deployed_tag(core, workers):
    ours = [core["services"]["backend"], core["services"]["nfs-server"]]
    for service in ours + list(workers["services"].values()):
        assert service["image"].endswith(":${IMAGE_TAG:-not-set}")


def test_metrics_are_kept_for_ninety_days_and_for_seven_in_development(core, dev):
    retention = "--storage.tsdb.retention.time="
    assert f"{retention}90d" in core["services"]["prometheus"]["command"]
    assert f"{retention}7d" in dev["services"]["prometheus"]["command"]


def test_ports_of_the_core_are_published_where_the_specification_says(core):
    published = {}
    for port in (port for service in core["services"].values() for port in service["ports"]):
        parts = re.fullmatch(r"(.+):\$\{\w+_PORT:-(\d+)\}:(\d+)", port)
        assert parts, port
        address, default, inside = parts.groups()
        assert default == inside
        published[inside] = address
    public, peers = "${CORE_PUBLIC_ADDRESS:-127.0.0.1}", "${CORE_BIND_ADDRESS:-127.0.0.1}"
    assert published == {
        "8000": public,
        "3000": public,
        "16686": public,
        "5432": peers,
        "4317": peers,
        "2049": peers,
        "9090": "127.0.0.1",
    }


def test_development_services_publish_ports_only_on_the_loopback_interface(dev):
    for service in dev["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_persistent_data_is_on_named_volumes(core):
    kept = {
        "db": ("postgres_data", "/var/lib/postgresql/data"),
        "prometheus": ("prometheus_data", "/prometheus"),
        "grafana": ("grafana_data", "/var/lib/grafana"),
    }
    for name, (volume, path) in kept.items():
        assert f"{volume}:{path}" in core["services"][name]["volumes"]
        assert volume in core["volumes"]


def test_docker_does_not_create_a_missing_shared_directory(core, workers):
    using = [core["services"]["backend"], core["services"]["nfs-server"]]
    for service in using + list(workers["services"].values()):
        (bind,) = [v for v in service["volumes"] if isinstance(v, dict)]
        assert bind["bind"] == {"create_host_path": False}


def test_no_variable_is_required_so_that_ps_and_logs_work_without_secrets(root):
    for name in ("core", "workers", "dev"):
        text = (root / f"docker-compose.{name}.yml").read_text(encoding="utf-8")
        assert not re.search(r"\$\{\w+:?\?", text)


def test_no_secret_has_a_default_in_the_shipped_files(root):
    for name in ("core", "workers"):
        text = (root / f"docker-compose.{name}.yml").read_text(encoding="utf-8")
        for secret in SECRETS:
            assert set(re.findall(rf"\${{{secret}[^}}]*}}", text)) <= {f"${{{secret}:-}}"}


def test_no_worker_receives_the_signing_secret(workers, dev):
    for service in workers["services"].values():
        assert "JWT_SECRET" not in service["environment"]
    for name in ("backtest-worker", "training-worker"):
        assert dev["services"][name]["environment"]["JWT_SECRET"] == ""


def test_a_changed_configuration_recreates_the_services_that_read_it(core):
    label = "place.mynerd.ktrdr.config-hash"
    assert core["services"]["prometheus"]["labels"] == {label: "${PROMETHEUS_CONFIG_HASH:-}"}
    assert core["services"]["grafana"]["labels"] == {label: "${GRAFANA_CONFIG_HASH:-}"}


def test_every_mounted_file_is_in_the_repository(core, root):
    for service in core["services"].values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("./"):
                assert (root / volume.split(":")[0]).exists(), volume


def test_secrets_delivered_in_memory_are_removed_from_the_environment(root, core, workers):
    for name, stack in (("core", core), ("workers", workers)):
        text = (root / f"deploy/tmpfs/{name}.yml").read_text(encoding="utf-8")
        secret = {"DB_PASSWORD", "JWT_SECRET", "WORKER_TOKEN", "GF_SECURITY_ADMIN_PASSWORD"}
        secret |= {"JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_UNTIL"}
        given = {
            variable
            for service in stack["services"].values()
            for variable in service.get("environment", {})
        }
        assert set(re.findall(r"^\s+(\w+): !reset null$", text, re.MULTILINE)) == secret & given


def test_containers_read_the_secret_files_that_a_deploy_writes(root):
    scripts = root / "ktrdr/deployment/homelab/scripts"
    for name, script, consumers in (
        ("core", "core_secrets", ("backend", "grafana")),
        ("workers", "worker_secrets", ("worker",)),
    ):
        text = (root / f"deploy/tmpfs/{name}.yml").read_text(encoding="utf-8")
        written = (scripts / f"{script}.sh").read_text(encoding="utf-8")
        for consumer in consumers:
            function = written.partition(f"with_{consumer}_files() {{")[2].partition("\n}")[0]
            files = {f"/run/secrets/{file}" for file in re.findall(r'(\w+) "\$\{', function)}
            assert files
            assert files <= set(re.findall(r"_FILE: (\S+)", text))
            assert f"source: /run/ktrdr/ktrdr-{name}/{consumer}" in text
            assert f"place.mynerd.ktrdr.secrets: {consumer}" in text
            assert f"${{{consumer.upper()}_SECRETS:-}}" in text
            assert f"{consumer.upper()}_SECRETS=$(with_{consumer}_files print_fin" in written
