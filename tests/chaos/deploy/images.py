"""What is deployed: two versions that are well, and some that are not."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from lab import registries
from lab.engine import docker
from lab.place import BACKEND_REPOSITORY, NAME, NFS_REPOSITORY
from lab.shell import run, works

BACKEND = "ktrdr-lab/ktrdr-backend"
NFS = "ktrdr-lab/ktrdr-nfs-server"
# What they are made of: the image of the first time, whatever is built meanwhile.
BASE = f"{NAME}/chaos:base"
GOOD = ("chaos-1", "chaos-2")
# In place of uvicorn, by the tag.
BROKEN = {
    "chaos-crashes": "#!/bin/sh\necho 'this one cannot live' >&2\nexit 4\n",
    "chaos-dies": "#!/bin/sh\necho 'this one lives for 10 s'\nsleep 10\nexit 5\n",
    "chaos-sickens": "#!/bin/sh\necho 'this one is never well'\nexec sleep 3600\n",
}


def push_broken(tag: str, program: str) -> None:
    """Puts an image into the registry whose uvicorn is another program."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as place:
        context = Path(place)
        (context / "uvicorn").write_text(program)
        (context / "uvicorn").chmod(0o755)
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY uvicorn /opt/ktrdr/bin/uvicorn\n")
        _build_and_push(context, tag)


def push_fresh(tag: str) -> None:
    """Puts an image into the registry that is well, and of which no host has the last layer."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as place:
        context = Path(place)
        (context / "fresh").write_bytes(secrets.token_bytes(512 * 1024))
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY fresh /fresh\n")
        _build_and_push(context, tag)


def push_all() -> None:
    """Puts all of them there that are not there yet."""
    if not works(docker(), "image", "inspect", BASE):
        run(docker(), "tag", BACKEND, BASE)
    for tag in GOOD:
        for image, repository in ((BASE, BACKEND_REPOSITORY), (NFS, NFS_REPOSITORY)):
            if not registries.has(repository, tag):
                registries.push(image, repository, tag)
    for tag, program in BROKEN.items():
        if not registries.has(BACKEND_REPOSITORY, tag):
            push_broken(tag, program)


def _build_and_push(context: Path, tag: str) -> None:
    image = f"ktrdr-lab/broken:{tag}"
    run(docker(), "build", "--quiet", "--tag", image, str(context))
    registries.push(image, BACKEND_REPOSITORY, tag)
    registries.push(NFS, NFS_REPOSITORY, tag)
    run(docker(), "image", "rm", image)
