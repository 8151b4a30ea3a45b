"""Compose files as Compose itself parses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.homelab.inventory import WorkerNode
from ktrdr.deployment.homelab.node_files import node_files, select_profiles
from ktrdr.deployment.releases.release import (
    interpolate,
    parse_compose_file,
    parse_env_file,
)

ROOT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).with_name("docker-compose")
NASTY = "'\" $ $$ ${HOME} ` \\ % # = & ; | < > ( ) { } * ? ! ~ \t\né, 日本"
CORE = ["-p", "ktrdr-core", "-f", "docker-compose.core.yml", "--env-file", ".env.core"]
WORKERS = ["-p", "ktrdr-workers", "-f", "docker-compose.workers.yml", "--env-file", ".env.workers"]
DEV = ["-f", "docker-compose.dev.yml"]
IMAGE_MODE = [*DEV, "-f", "docker-compose.dev.image.yml"]
SCALES = ["scale-2", "scale-3"]


def subsets(profiles: list[str]) -> list[tuple[str, ...]]:
    sizes = range(len(profiles) + 1)
    return list(chain.from_iterable(combinations(profiles, size) for size in sizes))


COMBINATIONS = [
    (CORE, ()),
    *((WORKERS, profiles) for profiles in subsets(SCALES)),
    *((DEV, profiles) for profiles in subsets(["workers"])),
    *((IMAGE_MODE, profiles) for profiles in subsets(["workers"])),
]


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME")}
    return subprocess.run(
        [COMPOSE, *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def config(files: list[str], *profiles: str, **environment: str) -> dict[str, Any]:
    chosen = chain.from_iterable(("--profile", profile) for profile in profiles)
    done = compose(*files, *chosen, "config", "--format", "json", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    parsed = json.loads(done.stdout)
    assert isinstance(parsed, dict)
    return parsed


@pytest.mark.parametrize(
    ("files", "profiles"), COMBINATIONS, ids=lambda value: "+".join(value) or "default"
)
def test_compose_accepts_every_combination_of_profiles_without_a_warning(files, profiles):
    assert config(files, *profiles)["services"]


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ((), {"backtest-worker-1", "training-worker-1"}),
        (
            ("scale-2",),
            {"backtest-worker-1", "training-worker-1", "backtest-worker-2", "training-worker-2"},
        ),
        (
            ("scale-2", "scale-3"),
            {f"{kind}-worker-{n}" for kind in ("backtest", "training") for n in (1, 2, 3)},
        ),
    ],
)
def test_each_scale_starts_the_workers_of_the_port_table(profiles, expected):
    assert config(WORKERS, *profiles)["services"].keys() == expected


@pytest.mark.parametrize("counts", [(2, 0), (0, 1), (3, 1), (1, 3), (2, 2)], ids=str)
def test_the_own_file_of_a_node_starts_its_workers_with_its_limits_and_variables(counts, tmp_path):
    value = NASTY.replace("\t", "").replace("\n", "") + " no 0o17 :# é"
    node = WorkerNode(
        host="b",
        ssh_host="b",
        workdir="/opt/b",
        backtest=counts[0],
        training=counts[1],
        backtest_memory="1536m",
        training_cpus=4,
        environment={"NASTY": value, "YES": "no", "OCTAL": "0o17", "EMPTY": ""},
    )
    content = (ROOT / "docker-compose.workers.yml").read_bytes()
    names = parse_compose_file("workers", content).names
    (own,) = node_files(node, node.counts, names).values()
    (tmp_path / "own.yml").write_bytes(own)
    tmpfs = ["-f", "deploy/tmpfs/workers.yml"]
    profiles = select_profiles(node.counts)
    services = config([*WORKERS, *tmpfs, "-f", str(tmp_path / "own.yml")], *profiles)["services"]
    parsed = parse_compose_file("workers", content, own)
    expected = {each.name: each for each in parsed.enabled_services(profiles)}
    assert services.keys() == expected.keys()
    assert len(services) == sum(counts)
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert int(limits["memory"]) == (expected[name].memory_mb or 0) * 1024**2
        assert limits["cpus"] == expected[name].cpus
        assert service["environment"]["NASTY"].replace("$$", "$") == value
        shown = [service["environment"][key] for key in ("YES", "OCTAL", "EMPTY")]
        assert shown == ["no", "0o17", ""]


def test_the_nfs_server_runs_unless_the_inventory_says_that_another_machine_serves_the_share():
    assert "nfs-server" in config(CORE)["services"], "as the specification's plain call runs it"
    assert "nfs-server" in config(CORE, "nfs", COMPOSE_PROFILES="nfs")["services"]
    # `ktrdr deploy` exports the variable, which wins over .env.core.
    external = config(CORE, COMPOSE_PROFILES="")["services"]
    assert external.keys() == {"db", "backend", "prometheus", "grafana", "jaeger"}


def test_secrets_reach_every_service_that_needs_them_unchanged():
    services = config(
        CORE,
        DB_USER="ktrdr",
        DB_PASSWORD=NASTY,
        JWT_SECRET=NASTY,
        GF_ADMIN_PASSWORD=NASTY,
        IMAGE_TAG="sha-1234567",
    )["services"]
    # What `config` prints can be read again, so it doubles every dollar sign.
    printed = NASTY.replace("$", "$$")
    assert printed not in services["db"]["environment"].values()
    assert services["backend"]["environment"]["DB_PASSWORD"] == printed
    assert services["backend"]["environment"]["JWT_SECRET"] == printed
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == printed


def test_a_service_is_given_only_the_secrets_that_it_needs():
    services = config(
        CORE, DB_USER="u", DB_PASSWORD="pw-db", JWT_SECRET="jwt", GF_ADMIN_PASSWORD="pw-gf"
    )["services"]
    holders = {
        secret: {name for name, service in services.items() if secret in json.dumps(service)}
        for secret in ("pw-db", "jwt", "pw-gf")
    }
    assert holders == {"pw-db": {"backend"}, "jwt": {"backend"}, "pw-gf": {"grafana"}}


def test_an_exported_value_wins_over_the_env_file():
    host = "workers-c.example.org"
    services = config(WORKERS, WORKER_HOSTNAME=host, IMAGE_NAME="example.org/it", IMAGE_TAG="x")
    worker = services["services"]["training-worker-1"]
    assert worker["environment"]["WORKER_PUBLIC_BASE_URL"] == f"http://{host}:5005"
    assert worker["image"] == "example.org/it:x"


@pytest.mark.parametrize("command", ["ps", "logs"])
def test_read_only_commands_parse_the_files_without_any_secret(command):
    # No engine is asked: what matters is that they get as far as asking for one.
    done = compose(*CORE, command, DOCKER_HOST="tcp://127.0.0.1:1")
    assert "Cannot connect to the Docker daemon" in done.stderr or "refused" in done.stderr
    assert "variable" not in done.stderr


def hashes(files: list[str], **environment: str) -> dict[str, str]:
    done = compose(*files, "config", "--hash", "*", **environment)
    assert done.returncode == 0
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("variable", "service"),
    [("PROMETHEUS_CONFIG_HASH", "prometheus"), ("GRAFANA_CONFIG_HASH", "grafana")],
)
def test_a_changed_configuration_recreates_its_service_and_no_other(variable, service):
    before, after = hashes(CORE, **{variable: "a"}), hashes(CORE, **{variable: "b"})
    assert {name for name in before if before[name] != after[name]} == {service}


def test_a_new_release_recreates_our_services_and_no_others():
    before, after = hashes(CORE, IMAGE_TAG="sha-1111111"), hashes(CORE, IMAGE_TAG="sha-2222222")
    assert {name for name in before if before[name] != after[name]} == {"backend", "nfs-server"}


def test_development_runs_the_checkouts_code_and_image_mode_that_of_the_image():
    developing = config(DEV, "workers")["services"]
    shipped = config(IMAGE_MODE, "workers", IMAGE_TAG="sha-1234567")["services"]
    for name in ("backend", "backtest-worker", "training-worker"):
        mounts = {volume["target"]: volume["source"] for volume in developing[name]["volumes"]}
        assert mounts["/app/ktrdr"] == str(ROOT / "ktrdr")
        assert "build" in developing[name]
        assert "/app/ktrdr" not in {volume["target"] for volume in shipped[name]["volumes"]}
        assert "build" not in shipped[name]
        assert shipped[name]["image"] == "ghcr.io/ktrdr/ktrdr-backend:sha-1234567"
    assert "--reload" in developing["backend"]["command"]
    assert "--reload" not in shipped["backend"]["command"]


def test_a_developers_own_env_file_wins_over_the_example(tmp_path):
    for name in ("docker-compose.core.yml", "docker-compose.workers.yml", "docker-compose.dev.yml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    example = (ROOT / ".env.dev.example").read_text(encoding="utf-8")
    (tmp_path / ".env.dev.example").write_text(example, encoding="utf-8")
    own = example.replace("DB_PASSWORD=development-only-password", "DB_PASSWORD=my-own-password")
    (tmp_path / ".env.dev").write_text(own, encoding="utf-8")
    services = config(["--project-directory", str(tmp_path), "-f", f"{tmp_path}/{DEV[1]}"])
    database, backend = services["services"]["db"], services["services"]["backend"]
    assert database["environment"]["POSTGRES_PASSWORD"] == "my-own-password"
    assert backend["environment"]["DB_PASSWORD"] == "my-own-password"


EXTENDED = """
services:
  first: {image: one}
  db:
    image: postgres:17
    ports: ["5432:5432"]
    profiles: [base]
    depends_on: {first: {condition: service_started}}
    environment: {WORKER_PORT: "5003", A: b}
"""


@pytest.mark.parametrize(
    "added",
    [
        "x: {extends: {service: db}, profiles: [backup]}",
        "x: {extends: db, image: other, ports: ['1:1'], environment: {WORKER_PORT: '5004'}}",
        "x: {extends: db, ports: !reset [], environment: {WORKER_PORT: !reset null}}",
        "x: {extends: db, ports: !override ['1:1'], depends_on: !reset null}",
        "x: {extends: db, depends_on: {db: {condition: service_started}}}",
        "y: {extends: db, ports: ['1:1']}\n  x: {extends: y, ports: ['2:2'], image: !override z}",
        "x: {image: a, profiles: !override [b], environment: {WORKER_PORT: !override '5005'}}",
        "x: {image: a, environment: [WORKER_PORT=5006], depends_on: [db]}",
        "x: {extends: db, environment: [C=d], depends_on: [db]}",
        "x: {extends: db, environment: !override [WORKER_PORT=5007], depends_on: !override [db]}",
    ],
)
def test_services_that_extend_others_are_read_as_compose_reads_them(
    tmp_path: Path, added: str
) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(f"{EXTENDED}  {added}\n")
    expected = config(["-p", "p", "-f", str(file)], "*")["services"]["x"]

    services = parse_compose_file("compose.yml", file.read_bytes()).services

    (found,) = [service for service in services if service.name == "x"]
    assert found.image == expected["image"]
    assert found.profiles == tuple(expected.get("profiles", ()))
    assert set(found.depends_on) == set(expected.get("depends_on", ()))
    assert str(found.worker_port or "") == expected.get("environment", {}).get("WORKER_PORT", "")
    ports = [f"{port['published']}:{port['target']}" for port in expected.get("ports", ())]
    assert sorted(found.ports) == sorted(ports)


@pytest.mark.parametrize(
    "image",
    [
        "plain:1",
        "$NAME",
        "$NAME:$TAG",
        "${NAME}:${TAG}",
        "${NAME:?say it}-${TAG?say it}",
        "${NAME:+other}${EMPTY:+not}${EMPTY+set}${NONE+not}",
        "${NONE:-${NAME}:1}",
        "${EMPTY-not}x",
        "${QUOTED}:${DOUBLE}:${COMMENT}:${NESTED}:${EXPORTED}",
    ],
)
def test_images_are_named_as_compose_names_them(tmp_path: Path, image: str) -> None:
    file, env_file = tmp_path / "compose.yml", tmp_path / "env"
    file.write_text(f"services:\n  x: {{image: '{image}'}}\n")
    env_file.write_text(
        "NAME=name\nTAG=1.2 \nEMPTY=\nQUOTED='quoted'\nDOUBLE=\"two words # x\"\n"
        "COMMENT=value # comment\nNESTED=${NAME}-$TAG\nexport EXPORTED=1\n"
    )
    named = ["-p", "p", "-f", str(file), "--env-file", str(env_file)]
    expected = config(named)["services"]["x"]["image"]

    (service,) = parse_compose_file("compose.yml", file.read_bytes()).services

    assert interpolate(service.image, parse_env_file(env_file.read_bytes())) == expected
