"""Contenders of the comparison: each deploys the core and both worker nodes with one command."""

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
from benchmarks.deploy.inputs import DeployInputs
from lab.config import ITEM, ROOT, VAULT

# `up`: nothing changes. `deploy`: something changes, and must be healthy at the end. `first`: the
# same with a new database, whose role does not have the vault's password yet.
Job = Literal["up", "deploy", "first"]
Command = Sequence[str]

KTRDR: Final = str(Path(sys.executable).with_name("ktrdr"))
# The commands that deploy everything; several would run in parallel.
DEPLOYS: Final[Sequence[Command]] = (("deploy", "all"),)
RIVALS: Final = Path(__file__).parent / "rivals"
_TIMEOUT_S: Final = 600


class ContenderError(Exception):
    """Failure of a contender; the message contains its last output."""


@dataclass(frozen=True)
class HostAccess:
    """Access to hosts and vault.

    Attributes:
        env: Environment after `. .lab/env`, with the benchmark's own vault.
        ssh_config: SSH configuration of the hosts.
        known_hosts: Host keys by address, for programs without support for aliases.
    """

    env: Mapping[str, str]
    ssh_config: Path
    known_hosts: Path


@dataclass(frozen=True)
class Contender:
    """A tool that is compared.

    Attributes:
        name: Name in the table.
        commands: Its commands for given inputs and a job, which run in parallel.
    """

    name: str
    commands: Callable[[DeployInputs, Job], Sequence[Command]]

    def run(self, inputs: DeployInputs, job: Job, access: HostAccess) -> float:
        """Do the job; return the duration in seconds.

        Raises:
            ContenderError: A command failed.
        """
        with _environment(inputs, job, access) as env:
            start = time.perf_counter()
            processes = [_start(command, env) for command in self.commands(inputs, job)]
            try:
                outputs = [process.communicate(timeout=_TIMEOUT_S)[0] for process in processes]
            finally:
                for process in processes:
                    process.kill()
            seconds = time.perf_counter() - start
        for process, output in zip(processes, outputs, strict=True):
            if process.returncode:
                tail = "\n".join(output.decode(errors="replace").splitlines()[-25:])
                raise ContenderError(f"{self.name} exited with {process.returncode}:\n{tail}")
        return seconds


def ktrdr() -> Contender:
    """Return ktrdr's own command with its defaults."""
    return Contender(
        "ktrdr deploy",
        lambda inputs, _: [(KTRDR, *words, "--tag", inputs.tag) for words in DEPLOYS],
    )


def plain() -> Contender:
    """Return shell and ssh: the core first if something changes, because the workers need it."""
    script = str(RIVALS / "plain.sh")
    return Contender("plain ssh", lambda inputs, job: [(script, str(inputs.directory), job)])


def plain_at_once() -> Contender:
    """Return shell and ssh with all hosts in parallel, ignoring dependencies."""
    script = str(RIVALS / "plain.sh")
    return Contender(
        "plain ssh, all at once",
        lambda inputs, job: [(script, str(inputs.directory), job, "at-once")],
    )


def pyinfra() -> Contender:
    """Return pyinfra, which implements SSH itself."""
    command = (str(tools.BIN / "pyinfra"), "-y", "pyinfra_hosts.py", "pyinfra_deploy.py")
    return Contender(f"pyinfra {tools.version('pyinfra')}", lambda *_: [command])


def ansible() -> Contender:
    """Return Ansible with community.docker."""
    program = str(tools.BIN / "ansible-playbook")
    return Contender(
        f"Ansible {tools.version('ansible')}",
        lambda inputs, _: [
            (program, "-i", str(inputs.directory / "ansible.json"), "ansible_playbook.yml")
        ],
    )


def _start(command: Command, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        # ktrdr reads the configuration of the checkout; the others have their files here.
        cwd=ROOT if command[0] == KTRDR else RIVALS,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def _environment(inputs: DeployInputs, job: Job, access: HostAccess) -> Iterator[dict[str, str]]:
    """Provide the environment of a contender; close connections that it leaves open."""
    with tempfile.TemporaryDirectory(prefix="kb") as directory:
        sockets = Path(directory, "cp")
        yield {
            **access.env,
            "BENCH_INPUTS": str(inputs.directory),
            "BENCH_JOB": job,
            "BENCH_VAULT": VAULT,
            "BENCH_ITEM": ITEM,
            "BENCH_KNOWN_HOSTS": str(access.known_hosts),
            "KTRDR_SSH_CONFIG": str(access.ssh_config),
            "ANSIBLE_CONFIG": str(RIVALS / "ansible.cfg"),
            "ANSIBLE_HOME": directory,
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            "ANSIBLE_SSH_ARGS": (
                f"-F {access.ssh_config} -C -o ControlMaster=auto -o ControlPersist=60s"
            ),
        }
        for socket in sockets.glob("*") if sockets.exists() else ():
            close = ("ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any")
            subprocess.run(close, capture_output=True, check=False)
