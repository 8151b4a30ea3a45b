"""The hosts: LXC containers with systemd, OpenSSH, Docker and Compose, as on Proxmox.

They run under LXC's stock seccomp profile, which Proxmox applies too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

from lab import certificates, ssh_keys, trees
from lab.build import hash_content
from lab.config import BARE_NODE, BRIDGE, GATEWAY, HOSTS, NODES, PREFIX_LENGTH, SHARED, UID, Node
from lab.progress import LabError, Progress
from lab.shell import log_file, run, succeeds, wait_until

_START_TIMEOUT_S: Final = 90
# Users of unprivileged hosts on this machine, as on Proxmox: 0 is 100000, 10001 is 110001.
_FIRST_ID: Final = 100_000
_IDS: Final = 65_536
_STOCK_PROFILE: Final = Path("/usr/share/lxc/config/common.seccomp")
# Programs run in a host without the environment of this machine.
_ENVIRONMENT: Final = (
    "--clear-env",
    *("--set-var", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    *("--set-var", "HOME=/root"),
)


def ensure_running(progress: Progress) -> None:
    """Start all hosts, and restart hosts that do not answer."""
    SHARED.mkdir(parents=True, exist_ok=True)
    os.chown(SHARED, UID, UID)
    _allow_ids()
    with ThreadPoolExecutor(len(NODES)) as pool:
        engines = sorted({node.docker for node in NODES})
        made = pool.map(lambda engine: trees.ensure_host_tree(engine, progress), engines)
        by_engine = dict(zip(engines, made, strict=True))
        list(pool.map(lambda node: _ensure_node(node, by_engine[node.docker], progress), NODES))


def start_bare(progress: Progress) -> None:
    """Start the host without Docker, as it is after its installation."""
    remove_bare()
    ssh_keys.ensure()
    _ensure_node(BARE_NODE, trees.ensure_host_tree(BARE_NODE.docker, progress), progress)


def remove_bare() -> None:
    """Remove the host without Docker."""
    if state(BARE_NODE) != "STOPPED":
        kill(BARE_NODE)
    shutil.rmtree(BARE_NODE.directory, ignore_errors=True)


def pull_changed_images(images: Iterable[str]) -> None:
    """Pull changed images on hosts that have an older one; Docker itself never pulls them again.

    Args:
        images: Names of images that have changed in the mirror.
    """
    for name in images:
        for node in NODES:
            if succeeds_inside(node, "docker", "image", "inspect", name):
                execute(node, "docker", "pull", "--quiet", name, timeout=300)


def execute(
    node: Node, *command: str, timeout: float = 60, check: bool = True, stdin: bytes = b""
) -> str:
    """Run a program on a host; return its output."""
    return run(*attach_command(node), *command, stdin=stdin, timeout=timeout, check=check).stdout


def succeeds_inside(node: Node, *command: str, timeout: float = 15) -> bool:
    """Return True if a program on a host exits with 0."""
    try:
        done = run(*attach_command(node), *command, stdin=b"", timeout=timeout, check=False)
    except LabError:
        return False
    return done.returncode == 0


def attach_command(node: Node) -> tuple[str, ...]:
    """Return the beginning of a command line that runs a program on a host."""
    return (*_lxc("attach", node), *_ENVIRONMENT, "--")


def root_of(node: Node) -> Path:
    """Return the root of a host's file system, as this machine sees it while the host runs."""
    return Path(f"/proc/{_first_process(node)}/root")


def is_healthy(node: Node) -> bool:
    """Return True if the host's engine, if it has one, and its SSH server answer."""
    return (
        state(node) == "RUNNING"
        and (node.docker == "none" or _engine_answers(node))
        and _ssh_answers(node)
    )


def state(node: Node) -> str:
    """Return the state of a host: ``RUNNING``, ``FROZEN``, ``STOPPED`` and so on."""
    done = run(*_lxc("info", node), "--state", "--no-humanize", check=False)
    return done.stdout.strip() or "STOPPED"


def stop(node: Node, *, timeout_s: int = 30) -> None:
    """Shut a host down, or end it if that takes too long."""
    if state(node) == "FROZEN":
        run(*_lxc("unfreeze", node))
    if state(node) != "STOPPED":
        run(*_lxc("stop", node), "--timeout", str(timeout_s), timeout=timeout_s + 60)


def kill(node: Node) -> None:
    """End a host at once, as a power cut does."""
    run(*_lxc("stop", node), "--kill", timeout=60)


def freeze(node: Node) -> None:
    """Stop all processes of a host without ending them."""
    run(*_lxc("freeze", node))


def unfreeze(node: Node) -> None:
    """Let a frozen host continue."""
    run(*_lxc("unfreeze", node))


def start(node: Node, *settings: str) -> None:
    """Start a stopped host, without waiting until it answers.

    Args:
        node: The host.
        settings: Lines of LXC's configuration that are valid until the host stops.

    Raises:
        LabError: LXC cannot start it on this machine.
    """
    log = log_file(node.container)
    log.unlink(missing_ok=True)
    words = ("--daemon", "--logfile", str(log), *(f"--define={each}" for each in settings))
    started = run(*_lxc("start", node), *words, check=False, timeout=60)
    if started.returncode:
        reason = next(
            (
                line.split(" - ", 1)[-1]
                for line in log.read_text(errors="replace").splitlines()
                if " ERROR " in line
            ),
            started.stderr.strip(),
        )
        raise LabError(f"LXC cannot start {node.container} on this machine: {reason}")


def reboot(node: Node, *settings: str) -> None:
    """Reboot a host, and wait until it answers; see `start` for the settings."""
    stop(node)
    start(node, *settings)
    wait_until(f"{node.names[0]} is up", lambda: is_healthy(node), _START_TIMEOUT_S)


def permit_nfs_server() -> str:
    """Return the setting of a host that can run an NFS server, which opens files by handles."""
    profile = HOSTS / "nfs.seccomp"
    lines = _STOCK_PROFILE.read_text().splitlines(keepends=True)
    profile.write_text("".join(line for line in lines if "open_by_handle_at" not in line))
    return f"lxc.seccomp.profile={profile}"


def stop_docker(node: Node) -> None:
    """Stop a host's engine, and the socket that would start it again on the next request."""
    execute(node, "systemctl", "stop", "docker.socket", "docker.service", timeout=120)


def start_docker(node: Node) -> None:
    """Start a host's engine."""
    execute(node, "systemctl", "start", "docker.service", timeout=120)


def remove_data() -> None:
    """Remove the file systems of all hosts, and the shared directory."""
    shutil.rmtree(HOSTS, ignore_errors=True)


def _allow_ids() -> None:
    """Let root use the users of unprivileged hosts."""
    line = f"root:{_FIRST_ID}:{_IDS}"
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        text = file.read_text() if file.exists() else ""
        if line not in text.splitlines():
            file.write_text(f"{text}{line}\n")


def _ensure_node(node: Node, tree: Path, progress: Progress) -> None:
    configuration = "\n".join(_configuration(node, tree)) + "\n"
    made_from = hash_content(configuration, str(tree))
    shutil.copy(certificates.AUTHORITY, _authority(node))
    file, mark = node.directory / "config", node.directory / "made-from"
    if mark.exists() and mark.read_text() == made_from:
        if state(node) == "STOPPED":
            start(node)
        elif is_healthy(node):
            return
        else:
            progress.write(f"{node.names[0]} does not answer; restarting it")
            kill(node)
            start(node)
    else:
        if file.exists() and state(node) != "STOPPED":
            kill(node)
        # Changes to the former tree do not fit a new one. Docker's data is kept.
        shutil.rmtree(node.directory / "root", ignore_errors=True)
        for name in ("docker", "containerd"):
            (node.directory / name).mkdir(parents=True, exist_ok=True)
        if node.is_privileged:
            (node.directory / "root").mkdir()
        else:
            run("cp", "--archive", "--reflink=auto", str(tree), str(node.directory / "root"))
        _write_system_files(node)
        file.write_text(configuration)
        mark.write_text(made_from)
        start(node)
    wait_until(f"{node.names[0]} is up", lambda: is_healthy(node), _START_TIMEOUT_S)


def _write_system_files(node: Node) -> None:
    """Write what distinguishes a host: its name and its resolver."""
    etc = node.directory / "root/etc"
    etc.mkdir(parents=True, exist_ok=True)
    name = node.key.lower()
    (etc / "hostname").write_text(f"{name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    (etc / "resolv.conf").write_text(f"nameserver {GATEWAY}\n")


def _configuration(node: Node, tree: Path) -> Iterator[str]:
    yield "lxc.include = /usr/share/lxc/config/common.conf"
    yield "lxc.arch = linux64"
    yield f"lxc.uts.name = {node.key.lower()}"
    if node.is_privileged:
        yield f"lxc.rootfs.path = overlay:{tree}:{node.directory}/root"
    else:
        # LXC can map the owners of a plain directory only.
        yield "lxc.include = /usr/share/lxc/config/userns.conf"
        yield f"lxc.idmap = u 0 {_FIRST_ID} {_IDS}"
        yield f"lxc.idmap = g 0 {_FIRST_ID} {_IDS}"
        yield f"lxc.rootfs.path = dir:{node.directory}/root"
        yield "lxc.rootfs.options = idmap=container"
    yield "lxc.net.0.type = veth"
    yield f"lxc.net.0.link = {BRIDGE}"
    yield "lxc.net.0.flags = up"
    yield f"lxc.net.0.ipv4.address = {node.address}/{PREFIX_LENGTH}"
    yield f"lxc.net.0.ipv4.gateway = {GATEWAY}"
    yield "lxc.apparmor.profile = unconfined"
    yield "lxc.mount.auto = proc:rw sys:rw cgroup:rw:force"
    yield "lxc.cgroup.devices.allow = a"
    yield "lxc.init.cmd = /sbin/init"
    # systemd 256 and newer start under control groups of version 1 only with this.
    yield "lxc.environment = SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
    # Docker's file systems cannot be layers on top of layers.
    for name in ("docker", "containerd"):
        yield _bind(node, node.directory / name, f"var/lib/{name}", "dir")
    yield _bind(node, SHARED, node.shared.lstrip("/"), "dir")
    yield _bind(node, ssh_keys.directory_of(node), "etc/ssh/lab", "dir", "ro")
    authority = _authority(node)
    yield _bind(node, authority, "etc/docker/certs.d/ghcr.io/ca.crt", "file", "ro")


def _bind(node: Node, source: Path, target: str, kind: str, *options: str) -> str:
    owners = () if node.is_privileged else ("idmap=container",)
    words = ",".join(("bind", *owners, *options, f"create={kind}"))
    return f"lxc.mount.entry = {source} {target} none {words} 0 0"


def _authority(node: Node) -> Path:
    """Return the host's copy of the certificate of the lab's authority."""
    return node.directory / "ca.crt"


def _engine_answers(node: Node) -> bool:
    return succeeds_inside(node, "docker", "info")


def _ssh_answers(node: Node) -> bool:
    return succeeds("ssh", "-F", str(ssh_keys.CONFIG), "-o", "BatchMode=yes", node.names[0], "true")


def _first_process(node: Node) -> int:
    done = run(*_lxc("info", node), "--pid", "--no-humanize", check=False)
    if not done.stdout.strip().isdigit():
        raise LabError(f"the host {node.key} is not running")
    return int(done.stdout)


@cache
def _lxc(tool: str, node: Node) -> tuple[str, ...]:
    return (f"lxc-{tool}", "--lxcpath", str(HOSTS), "--name", node.container)
