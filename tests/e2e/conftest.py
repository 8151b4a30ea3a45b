"""Fixtures: the lab, and a stack whose secrets contain all characters that break quoting."""

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

from lab import demo, lifecycle, nodes, registries, vault
from lab.config import BACKEND_REPOSITORY, NFS_REPOSITORY, NODES, ROOT, Node
from lab.progress import Progress
from tests.e2e.leaks import CommandLineSampler, Sampled

BIN = ROOT / ".venv" / "bin"
# Characters with a special meaning in shells, Compose, URLs, JSON or YAML.
ODD = "'\"$`\\%#=&;|<>(){}*?!~ \t\né日本"


# From tests that only query to tests that break things. The README's commands need an empty lab.
ORDER = (
    *("lab", "deploy", "break_glass", "releases", "check_diff", "stack", "nodes", "storage"),
    *("prepare", "maintenance"),
    *("rotation", "memory", "further_secrets", "replacement", "errors", "failures", "chaos_deploy"),
    *("development_stack", "images"),
    "readme",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests in the order that their shared stack requires."""
    mine = [item for item in items if item.path.parent.name == "e2e"]
    for item in mine:
        # A slow machine takes longer for the same work. A test's own limit comes first.
        item.add_marker(pytest.mark.timeout(600))
    mine.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    others = [item for item in items if item not in mine]
    items[:] = [*others, *mine]


@dataclass(frozen=True)
class Ran:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All output of the command."""
        return self.out + self.err

    @property
    def json(self) -> Any:
        """Standard output, parsed as JSON."""
        return json.loads(self.out)

    @property
    def events(self) -> list[Any]:
        """Events of a deploy with ``--json``; the last one is the result."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> Any:
        """Result of a deploy with ``--json``."""
        return self.events[-1]

    @property
    def on_host(self) -> Any:
        """Result of the only host of a deploy with ``--json``."""
        (host,) = self.result["hosts"]
        return host


@dataclass
class Lab:
    """The lab, as an operator uses it.

    Attributes:
        env: Environment after `. .lab/env`, with the tests' own vault and token file.
        tag: Image tag of the checkout in the lab.
        fields: Fields of the vault.
        outputs: Output of all commands, by command.
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
        """Run a command; return its result."""
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
        """Run a command that must succeed."""
        ran = self.ktrdr(*arguments, **more)
        assert ran.code == 0, ran.text
        return ran

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a command in its own process group."""
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
        """Run a program on a host; return its output."""
        return nodes.execute(node(key), *command, check=check, timeout=120)

    def inspect(self, key: str) -> dict[str, Any]:
        """Return the containers of a host, by service."""
        ids = self.on(key, "docker", "ps", "--all", "--quiet", "--no-trunc").split()
        # Docker reports an error for a container that is gone meanwhile, and shows the others.
        shown = self.on(key, "docker", "inspect", *ids, check=False) if ids else "[]"
        found = json.loads(shown)
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def inside(self, key: str, service: str, program: str) -> Any:
        """Run a Python program in a service's container; return its JSON output."""
        container = self.inspect(key)[service]["Id"]
        return json.loads(self.on(key, "docker", "exec", container, "python3", "-c", program))

    def environment_of(self, key: str, service: str) -> dict[bytes, bytes]:
        """Return the environment of a service's first process, as bytes."""
        pid = self.inspect(key)[service]["State"]["Pid"]
        raw = base64.b64decode(self.on(key, "base64", f"/proc/{pid}/environ"))
        pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
        return {name: value for name, _, value in pairs}

    def root_of(self, key: str) -> Path:
        """Return the root of a host's file system on this machine."""
        return nodes.root_of(node(key))

    def write_vault(
        self, path: Path, changes: Mapping[str, Any] | None = None, *, state: str = "signed in"
    ) -> dict[str, str]:
        """Write another vault; return the environment variables that select it."""
        fields = {**self.fields, **(changes or {})}
        kept = {name: value for name, value in fields.items() if value is not None}
        vault.write_file(path, kept, state=state)
        return {"KTRDR_LAB_VAULT": str(path)}

    def up(self) -> None:
        """Start or repair the lab, and set the tests' own token in its registry."""
        lifecycle.up(Progress())
        registries.set_token(self.fields["ghcr_token"])

    def wipe(self) -> None:
        """Remove all containers, volumes and files of deploys from the hosts."""
        for each in NODES:
            script = (
                "docker ps --all --quiet | xargs -r docker rm --force --volumes; "
                "docker volume ls --quiet | xargs -r docker volume rm --force; "
                "docker network prune --force; rm -rf /opt/* /opt/.[!.]*; "
                f"rm -rf {each.shared}/* {each.shared}/.[!.]*"
            )
            nodes.execute(each, "sh", "-c", script, timeout=180)


def node(key: str) -> Node:
    """Return a host of the lab by its key."""
    return next(each for each in NODES if each.key == key)


@pytest.fixture(scope="session")
def bare_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Provide the lab without a stack, and remove the stack afterwards."""
    lifecycle.up(Progress())
    place = tmp_path_factory.mktemp("laptop")
    mark = secrets.token_hex(6)
    fields = {
        "db_username": "kt r%#=&;|<>(){}*?!~é日本",
        "db_password": f"db-{mark}{ODD}-end",
        "jwt_secret": f"jwt-{secrets.token_hex(16)}{ODD}-end",
        "grafana_password": f"gf-{mark}{ODD[::-1]}-end",
        # No token has white space, and one with it is refused.
        "ghcr_token": f"ghp-{mark}{''.join(ODD.split())}-end",
    }
    vault.write_file(place / "vault.json", fields)
    registries.set_token(fields["ghcr_token"])
    env = {
        **demo.lab_environment(),
        "KTRDR_LAB_VAULT": str(place / "vault.json"),
        "KTRDR_CONFIG": str(place / "ktrdr.toml"),
    }
    for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    lab = Lab({**env, "PYTHONWARNINGS": "error"}, env["KTRDR_DEPLOY_TAG"], fields)
    lab.wipe()
    yield lab
    lab.wipe()
    registries.set_token(vault.read_field("ghcr_token"))


@dataclass(frozen=True)
class Deployment:
    """The three deploys of the whole stack, and the argument lists sampled meanwhile."""

    core: Ran
    b: Ran
    c: Ran
    sampled: Sampled


@pytest.fixture(scope="session")
def deployment(bare_lab: Lab) -> Deployment:
    """Deploy the whole stack with maximum verbosity, while argument lists are sampled."""
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
    """Provide the lab with the whole stack."""
    return bare_lab


@pytest.fixture(scope="session")
def moving_tag(bare_lab: Lab) -> str:
    """Push a tag that names no commit, so that deploys use the working tree's configuration."""
    for image, repository in (
        ("ktrdr-lab/ktrdr-backend", BACKEND_REPOSITORY),
        ("ktrdr-lab/ktrdr-nfs-server", NFS_REPOSITORY),
    ):
        registries.push_image(image, repository, "e2e")
    return "e2e"
