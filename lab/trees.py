"""Root file systems: a bare Debian, and the hosts' Debian with systemd, OpenSSH and Docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from lab.build import CA_BUNDLE, hash_content
from lab.config import BASE_IMAGE, HOST_FILES, ROOT, TREES
from lab.engine import docker
from lab.progress import LabError, Progress
from lab.shell import run, succeeds

SUITE: Final = "trixie"
BARE: Final = TREES / SUITE
_HOST_PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "iptables", "procps"),
    # The client with which a test reads the NFS export.
    *("ca-certificates", "curl", "libnfs-utils"),
)
# Debian's own engine has the classic image store. The current one is in the next release.
_DOCKER_PACKAGES: Final = {
    # Ansible, which benchmarks compare with, needs Python on the hosts.
    "old": ("docker.io", "docker-cli", "nftables", "python3"),
    "current": ("--target-release", "sid", "docker.io", "docker-cli", "nftables", "python3"),
    # `ktrdr host prepare` installs them, without a network.
    "none": ("--download-only", "docker.io", "docker-cli", "docker-compose", "nftables"),
}
# The package index of the mirror may be older than its declared validity.
_APT_CONFIGURATION: Final = (
    'APT::Install-Recommends "false";\n'
    'Acquire::Languages "none";\n'
    'Acquire::Check-Valid-Until "false";\n'
)
_PIN: Final = "Package: *\nPin: release n=sid\nPin-Priority: 100\n"
# Debian 13 itself has a Compose that is too old.
_DOCKER_PIN: Final = (
    "\nPackage: docker* containerd runc tini\nPin: release n=sid\nPin-Priority: 990\n"
)


def ensure_bare(progress: Progress) -> None:
    """Create a bare Debian from packages, and import it as the base of all images."""
    if not (BARE / "etc/debian_version").exists():
        with progress.step("create a bare Debian from packages (debootstrap)"):
            partial = TREES / f"{SUITE}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            TREES.mkdir(parents=True, exist_ok=True)
            run("debootstrap", "--variant=minbase", SUITE, str(partial), *_package_mirror())
            _adapt(partial)
            partial.rename(BARE)
    if not succeeds(docker(), "image", "inspect", BASE_IMAGE):
        _import_image(BARE)


def ensure_host_tree(engine: str, progress: Progress) -> Path:
    """Return the root file system of hosts, created if it does not exist.

    Args:
        engine: ``current``, ``old`` or ``none``; see `lab.config.Node`.
        progress: Output of the step.
    """
    compose = ROOT / ".venv/bin/docker-compose"
    packages = (*_HOST_PACKAGES, *_DOCKER_PACKAGES[engine])
    content = hash_content(HOST_FILES, compose, *packages, _APT_CONFIGURATION, _DOCKER_PIN)
    tree = TREES / f"host-{engine}-{content[:12]}"
    if tree.exists():
        return tree
    with progress.step(f"install systemd, OpenSSH and Docker ({engine}) into a root file system"):
        partial = TREES / f"host-{engine}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        run("cp", "--archive", "--reflink=auto", str(BARE), str(partial))
        if engine != "old":
            sources = partial / "etc/apt/sources.list"
            (partial / "etc/apt/sources.list.d/sid.list").write_text(
                sources.read_text().replace(SUITE, "sid")
            )
            pins = _PIN + (_DOCKER_PIN if engine == "none" else "")
            (partial / "etc/apt/preferences.d/sid").write_text(pins)
        _chroot(partial, "apt-get", "update", "-q")
        _chroot(partial, "apt-get", "install", "--yes", "-q", *_HOST_PACKAGES)
        _chroot(partial, "apt-get", "clean")
        _chroot(partial, "apt-get", "install", "--yes", "-q", *_DOCKER_PACKAGES[engine])
        (partial / "usr/sbin/policy-rc.d").unlink()
        shutil.copytree(HOST_FILES / "files", partial, dirs_exist_ok=True)
        if engine != "none":
            _chroot(partial, "apt-get", "clean")
            daemon = HOST_FILES / f"daemon-{engine}.json"
            shutil.copy(daemon, partial / "etc/docker/daemon.json")
            plugins = partial / "usr/local/lib/docker/cli-plugins"
            plugins.mkdir(parents=True)
            shutil.copy(compose, plugins / "docker-compose")
        _chroot(partial, "systemctl", "enable", "ssh.service", "prometheus-relay.socket")
        partial.rename(tree)
    return tree


def _chroot(tree: Path, *command: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    proxies = {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy")}
    run("chroot", str(tree), *command, env={**environment, **proxies}, timeout=600)


def _package_mirror() -> list[str]:
    """Return the package mirror of this machine, if it runs Debian."""
    template = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    done = run("apt-get", "indextargets", "--format", template, check=False)
    for line in done.stdout.splitlines():
        origin, component, codename, uri = (*line.split(" ", 3), "", "", "")[:4]
        if (origin, component) == ("Debian", "main") and "-" not in codename:
            return [uri]
    return []


def _adapt(target: Path) -> None:
    """Copy this machine's certificates, and keep the package cache small."""
    if CA_BUNDLE.exists():
        certificates = target / CA_BUNDLE.relative_to("/")
        certificates.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CA_BUNDLE, certificates)
    shutil.rmtree(target / "var/cache/apt", ignore_errors=True)
    (target / "var/cache/apt/archives/partial").mkdir(parents=True)
    (target / "etc/apt/apt.conf.d/99lab").write_text(_APT_CONFIGURATION)
    # No package may start a service while it is installed.
    policy = target / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _import_image(tree: Path) -> None:
    with subprocess.Popen(
        ["tar", "--create", "--numeric-owner", "--directory", str(tree), "."],
        stdout=subprocess.PIPE,
    ) as archive:
        done = subprocess.run(
            [docker(), "import", "--change", "CMD bash", "-", BASE_IMAGE],
            stdin=archive.stdout,
            capture_output=True,
            check=False,
        )
    if archive.returncode or done.returncode:
        raise LabError(f"cannot import the Debian image: {done.stderr.decode().strip()}")
