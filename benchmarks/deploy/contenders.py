"""Who is compared: each deploys core and both worker nodes, as one command of an operator."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks.deploy import tools
from benchmarks.deploy.kit import Kit
from lab.config import ITEM, ROOT, VAULT

# `up`: nothing is to change. `deploy`: something is, and it must be healthy in the end. `first`:
# the same, where the database is new and its role has yet to get the vault's password.
Job = Literal["up", "deploy", "first"]
Command = Sequence[str]

KTRDR: Final = str(Path(sys.executable).with_name("ktrdr"))
# What deploys everything; several would be run side by side.
DEPLOYS: Final[Sequence[Command]] = (("deploy", "all"),)
RIVALS: Final = Path(__file__).parent / "rivals"
_PATIENCE_S: Final = 600


class Failed(Exception):
    """A contender did not do its job; the message is what it said last."""


@dataclass(frozen=True)
class Way:
    """How hosts and vault are reached.

    Attributes:
        env: The environment after `. .lab/env`, with the benchmark's own vault.
        ssh_config: Leads to the hosts.
        known_hosts: The hosts' keys by address, for what knows no alias.
    """

    env: Mapping[str, str]
    ssh_config: Path
    known_hosts: Path


@dataclass(frozen=True)
class Contender:
    """One of those that are compared.

    Attributes:
        name: What the table calls it.
        commands: What it runs for a kit and a job, side by side.
    """

    name: str
    commands: Callable[[Kit, Job], Sequence[Command]]

    def run(self, kit: Kit, job: Job, way: Way) -> float:
        """Does the job; gives its seconds.

        Raises:
            Failed: It did not end well.
        """
        with _environment(kit, job, way) as env:
            began = time.perf_counter()
            started = [_start(command, env) for command in self.commands(kit, job)]
            try:
                ended = [process.communicate(timeout=_PATIENCE_S)[0] for process in started]
            finally:
                for process in started:
                    process.kill()
            seconds = time.perf_counter() - began
        for process, said in zip(started, ended, strict=True):
            if process.returncode:
                tail = "\n".join(said.decode(errors="replace").splitlines()[-25:])
                raise Failed(f"{self.name} ended with {process.returncode}:\n{tail}")
        return seconds


def ktrdr() -> Contender:
    """This project's own command, with all it does by default."""
    return Contender(
        "ktrdr deploy", lambda kit, _: [(KTRDR, *words, "--tag", kit.tag) for words in DEPLOYS]
    )


def plain() -> Contender:
    """Shell and ssh: where something changes, the core first, as the workers need it."""
    script = str(RIVALS / "plain.sh")
    return Contender("plain ssh", lambda kit, job: [(script, str(kit.directory), job)])


def plain_at_once() -> Contender:
    """The same, with no thought for who needs whom."""
    script = str(RIVALS / "plain.sh")
    return Contender(
        "plain ssh, all at once", lambda kit, job: [(script, str(kit.directory), job, "at-once")]
    )


def pyinfra() -> Contender:
    """pyinfra, which speaks SSH itself."""
    command = (str(tools.BIN / "pyinfra"), "-y", "pyinfra_hosts.py", "pyinfra_deploy.py")
    return Contender(f"pyinfra {tools.version('pyinfra')}", lambda *_: [command])


def ansible() -> Contender:
    """Ansible with community.docker."""
    program = str(tools.BIN / "ansible-playbook")
    return Contender(
        f"Ansible {tools.version('ansible')}",
        lambda kit, _: [
            (program, "-i", str(kit.directory / "ansible.json"), "ansible_playbook.yml")
        ],
    )


def _start(command: Command, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        # ktrdr takes configuration from the checkout it is called in; the others' files are here.
        cwd=ROOT if command[0] == KTRDR else RIVALS,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def _environment(kit: Kit, job: Job, way: Way) -> Iterator[dict[str, str]]:
    """What a contender finds; connections that it leaves open for the next time are closed."""
    with tempfile.TemporaryDirectory(prefix="kb") as directory:
        sockets = Path(directory, "cp")
        yield {
            **way.env,
            "KIT": str(kit.directory),
            "KIT_JOB": job,
            "KIT_VAULT": VAULT,
            "KIT_ITEM": ITEM,
            "KIT_KNOWN_HOSTS": str(way.known_hosts),
            "KTRDR_SSH_CONFIG": str(way.ssh_config),
            "ANSIBLE_CONFIG": str(RIVALS / "ansible.cfg"),
            "ANSIBLE_HOME": directory,
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            "ANSIBLE_SSH_ARGS": (
                f"-F {way.ssh_config} -C -o ControlMaster=auto -o ControlPersist=60s"
            ),
        }
        for socket in sockets.glob("*") if sockets.exists() else ():
            close = ("ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any")
            subprocess.run(close, capture_output=True, check=False)
