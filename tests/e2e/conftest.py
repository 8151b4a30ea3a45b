"""The lab, and a stack in it whose secrets are made of everything that breaks quoting."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab import containers, demo, homelab, registries, vault
from lab.place import BACKEND_REPOSITORY, NFS_REPOSITORY, NODES, ROOT, Node
from lab.report import Report
from tests.e2e.leaks import CommandLineSampler, Sampled

BIN = ROOT / ".venv" / "bin"
# Every character that some shell, Compose, URL, JSON or YAML takes for something else.
ODD = "'\"$`\\%#=&;|<>(){}*?!~ \t\né日本"


# From what only looks to what breaks things; the README's commands start from a bare lab again.
ORDER = (
    *("lab", "deploy", "break_glass", "releases", "check_diff", "stack", "day", "rotation"),
    *("memory", "replacement", "errors", "failures", "chaos_deploy", "development_stack"),
    "readme",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests share one stack, so they run in an order that lets them."""
    mine = [item for item in items if item.path.parent.name == "e2e"]
    mine.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    others = [item for item in items if item not in mine]
    items[:] = [*others, *mine]


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it wrote."""
        return self.out + self.err

    @property
    def json(self) -> Any:
        """Its standard output, read."""
        return json.loads(self.out)

    @property
    def events(self) -> list[Any]:
        """What a deploy told with ``--json``, the result last."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> Any:
        """What a deploy with ``--json`` has come to."""
        return self.events[-1]

    @property
    def on_host(self) -> Any:
        """The same, of the only host that it was about."""
        (host,) = self.result["hosts"]
        return host


@dataclass
class Lab:
    """The rehearsal homelab as an operator at a laptop has it.

    Attributes:
        env: The environment after `. .lab/env`, with a vault and a token file of the tests' own.
        tag: The image that the lab holds of what is checked out.
        fields: What the vault holds.
        outputs: Everything that any command has written, by command.
    """

    env: dict[str, str]
    tag: str
    fields: Mapping[str, str]
    outputs: dict[str, str] = field(default_factory=dict)

    def ktrdr(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        timeout: float = 280,
    ) -> Ran:
        """Runs a command to its end."""
        done = subprocess.run(
            [str(BIN / "ktrdr"), *arguments],
            cwd=cwd,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        self.outputs[f"{len(self.outputs)}: ktrdr {' '.join(arguments)}"] = ran.text
        assert "Traceback" not in ran.text, ran.text
        return ran

    def good(self, *arguments: str, **more: Any) -> Ran:
        """Runs a command that must end well."""
        ran = self.ktrdr(*arguments, **more)
        assert ran.code == 0, ran.text
        return ran

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Starts a command in a process group of its own."""
        return subprocess.Popen(
            [str(BIN / "ktrdr"), *arguments],
            cwd=ROOT,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def on(self, key: str, *command: str, check: bool = True) -> str:
        """What a program prints on a host."""
        return containers.execute(node(key).container, *command, check=check, timeout=120)

    def inspect(self, key: str) -> dict[str, Any]:
        """The containers of a host, by service."""
        ids = self.on(key, "docker", "ps", "--all", "--quiet", "--no-trunc").split()
        # Of one that has gone since, Docker complains, and shows the others.
        shown = self.on(key, "docker", "inspect", *ids, check=False) if ids else "[]"
        found = json.loads(shown)
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def inside(self, key: str, service: str, program: str) -> Any:
        """What a Python program prints as JSON inside a service's container."""
        container = self.inspect(key)[service]["Id"]
        return json.loads(self.on(key, "docker", "exec", container, "python3", "-c", program))

    def environment_of(self, key: str, service: str) -> dict[bytes, bytes]:
        """What the first process of a service has as its environment, byte for byte."""
        pid = self.inspect(key)[service]["State"]["Pid"]
        raw = base64.b64decode(self.on(key, "base64", f"/proc/{pid}/environ"))
        pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
        return {name: value for name, _, value in pairs}

    def root_of(self, key: str) -> Path:
        """A host's file system, as this machine sees it."""
        there = containers.inspect(node(key).container)
        assert there
        return Path(f"/proc/{there['State']['Pid']}/root")

    def write_vault(
        self, path: Path, changes: Mapping[str, Any] | None = None, *, state: str = "signed in"
    ) -> dict[str, str]:
        """Writes another vault; gives the environment that makes it be used."""
        fields = {**self.fields, **(changes or {})}
        kept = {name: value for name, value in fields.items() if value is not None}
        vault.write(path, kept, state=state)
        return {"KTRDR_LAB_VAULT": str(path)}

    def up(self) -> None:
        """Raises or repairs the lab, whose registry then takes the tests' own token again."""
        homelab.up(Report())
        registries.allow(self.fields["ghcr_token"])

    def wipe(self) -> None:
        """Leaves the hosts as bare as they were when they came up."""
        for each in NODES:
            script = (
                "docker ps --all --quiet | xargs -r docker rm --force --volumes; "
                "docker volume ls --quiet | xargs -r docker volume rm --force; "
                "docker network prune --force; rm -rf /opt/* /opt/.[!.]*; "
                f"rm -rf {each.shared}/* {each.shared}/.[!.]*"
            )
            containers.execute(each.container, "sh", "-c", script, timeout=180)


def node(key: str) -> Node:
    """A host of the lab by its key."""
    return next(each for each in NODES if each.key == key)


@pytest.fixture(scope="session")
def bare_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab with nothing deployed; it is left that way, too."""
    homelab.up(Report())
    place = tmp_path_factory.mktemp("laptop")
    mark = secrets.token_hex(6)
    fields = {
        "db_username": "kt r%#=&;|<>(){}*?!~é日本",
        "db_password": f"db-{mark}{ODD}-end",
        "jwt_secret": f"jwt-{secrets.token_hex(16)}{ODD}-end",
        "grafana_password": f"gf-{mark}{ODD[::-1]}-end",
        # The registry's own password file has one line for each user.
        "ghcr_token": f"ghp-{mark}{ODD.replace(chr(10), '')}-end",
    }
    vault.write(place / "vault.json", fields)
    registries.allow(fields["ghcr_token"])
    env = {
        **demo.environment(),
        "KTRDR_LAB_VAULT": str(place / "vault.json"),
        "KTRDR_CONFIG": str(place / "ktrdr.toml"),
    }
    for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    lab = Lab({**env, "PYTHONWARNINGS": "error"}, env["KTRDR_DEPLOY_TAG"], fields)
    lab.wipe()
    yield lab
    lab.wipe()
    registries.allow(vault.field("ghcr_token"))


@dataclass(frozen=True)
class Deployment:
    """The three deploys that put the stack up, and what was seen of them."""

    core: Ran
    b: Ran
    c: Ran
    sampled: Sampled


@pytest.fixture(scope="session")
def deployment(bare_lab: Lab) -> Deployment:
    """The whole stack, deployed as loudly as can be while argument lists are watched."""
    watched = {name: text for name, text in bare_lab.fields.items() if name != "db_username"}
    sampler = CommandLineSampler(watched)
    core = bare_lab.ktrdr("deploy", "core", "all", "-vv")
    b = bare_lab.ktrdr("deploy", "workers", "B")
    sampled = sampler.stop()
    c = bare_lab.ktrdr("deploy", "workers", "C", "--json")
    for ran in (core, b, c):
        assert ran.code == 0, ran.text
    bare_lab.good("token", "create", "--role", "operator", "--save")
    return Deployment(core, b, c, sampled)


@pytest.fixture
def lab(bare_lab: Lab, deployment: Deployment) -> Lab:
    """The lab with the whole stack on it."""
    return bare_lab


@pytest.fixture(scope="session")
def moving_tag(bare_lab: Lab) -> str:
    """A tag that names no commit, so that the working tree's configuration goes with it."""
    for image, repository in (
        ("ktrdr-lab/ktrdr-backend", BACKEND_REPOSITORY),
        ("ktrdr-lab/ktrdr-nfs-server", NFS_REPOSITORY),
    ):
        registries.push(image, repository, "e2e")
    return "e2e"
