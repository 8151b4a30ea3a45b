"""Installation of pyinfra and Ansible in a separate environment: `.bench/`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from lab import nodes
from lab.config import NODES, PYTHON_IMAGE, ROOT
from lab.engine import docker
from lab.shell import run

DIRECTORY: Final = ROOT / ".bench"
BIN: Final = DIRECTORY / "bin"
_LOCK: Final = ROOT / "requirements" / "bench.txt"
_STAMP: Final = DIRECTORY / "lock"
# Ansible runs Python on the hosts, and the lab's hosts have none. Copy the Python of the lab's own
# image, with the libraries that a bare Debian lacks, to the paths of the Debian packages.
_PYTHON: Final = (
    "tar -c -C / usr/bin/python3 usr/bin/python3.11 usr/lib/python3 usr/lib/python3.11 "
    "$(ldd /usr/bin/python3.11 | grep -o '/lib/[^ ]*libexpat[^ ]*' | xargs readlink -f) "
    "$(ldd /usr/bin/python3.11 | grep -o '/lib/[^ ]*libexpat[^ ]*') 2>/dev/null"
)


def install_tools() -> None:
    """Install pyinfra and Ansible once, at locked versions with verified hashes."""
    if _STAMP.exists() and _STAMP.read_text() == _LOCK.read_text():
        return
    print("installing pyinfra and Ansible into .bench …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(DIRECTORY)], check=True)
    subprocess.run(
        [
            *(str(BIN / "pip"), "install", "-qq", "--disable-pip-version-check"),
            *("--require-hashes", "-r", str(_LOCK)),
        ],
        check=True,
    )
    _STAMP.write_text(_LOCK.read_text())


def version(package: str) -> str:
    """Return the installed version of a package."""
    metadata = next(Path(DIRECTORY, "lib").glob(f"python*/site-packages/{package}-*.dist-info"))
    return metadata.name.removesuffix(".dist-info").rpartition("-")[2]


def install_python_on_hosts() -> None:
    """Copy Python to the lab's hosts."""
    for node in NODES:
        if not nodes.succeeds_inside(node, "python3", "-c", "import json, ssl"):
            export = f"{docker()} run --rm {PYTHON_IMAGE} sh -c {shlex.quote(_PYTHON)}"
            extract = f"{shlex.join(nodes.attach_command(node))} tar -x -C /"
            run("sh", "-c", f"{export} | {extract}", timeout=120)
