"""Images of the chaos tests: two healthy versions, and broken ones."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

from lab import registries
from lab.config import BACKEND_REPOSITORY, NAME, NFS_REPOSITORY
from lab.engine import docker
from lab.shell import run, succeeds

BACKEND = "ktrdr-lab/ktrdr-backend"
NFS = "ktrdr-lab/ktrdr-nfs-server"
# Their base: the image of the first run, even if another one is built later.
BASE = f"{NAME}/chaos:base"
GOOD = ("chaos-1", "chaos-2")
# The same with light workers, which start ten times faster and run no operations: see light.py.
LIGHT = ("light-1", "light-2")
_LIGHT_WORKER = Path(__file__).with_name("worker")
_LIGHT = f"""FROM {BASE}
USER root
RUN mv /opt/ktrdr/bin/uvicorn /opt/ktrdr/bin/uvicorn-itself
COPY uvicorn /opt/ktrdr/bin/uvicorn
COPY light.py /opt/light.py
USER 10001:10001
"""
# Replacements of uvicorn, by tag.
BROKEN = {
    "chaos-crashes": "#!/bin/sh\necho 'this release crashes' >&2\nexit 4\n",
    "chaos-exits": "#!/bin/sh\necho 'this release exits after 10 s'\nsleep 10\nexit 5\n",
    "chaos-unhealthy": "#!/bin/sh\necho 'this release is never healthy'\nexec sleep 3600\n",
}


def push_broken(tag: str, program: str) -> None:
    """Push an image in which uvicorn is replaced by another program."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as directory:
        context = Path(directory)
        (context / "uvicorn").write_text(program)
        (context / "uvicorn").chmod(0o755)
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY uvicorn /opt/ktrdr/bin/uvicorn\n")
        _build_and_push(context, tag)


def push_light(tag: str) -> None:
    """Push an image with light workers."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as directory:
        context = Path(directory)
        shutil.copytree(_LIGHT_WORKER, context, dirs_exist_ok=True)
        (context / "Dockerfile").write_text(_LIGHT)
        _build_and_push(context, tag)


def other_tag(tag: str, pair: tuple[str, str]) -> str:
    """Return the tag of a pair that differs from the given one, by default the second."""
    return pair[0] if tag == pair[1] else pair[1]


def push_fresh(tag: str) -> None:
    """Push a healthy image with a last layer that no host has."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as directory:
        context = Path(directory)
        (context / "fresh").write_bytes(secrets.token_bytes(512 * 1024))
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY fresh /fresh\n")
        _build_and_push(context, tag)


def push_all() -> None:
    """Push all images that are not in the registry yet."""
    if not succeeds(docker(), "image", "inspect", BASE):
        run(docker(), "tag", BACKEND, BASE)
    for tag in GOOD:
        for image, repository in ((BASE, BACKEND_REPOSITORY), (NFS, NFS_REPOSITORY)):
            if not registries.has_image(repository, tag):
                registries.push_image(image, repository, tag)
    for tag in LIGHT:
        if not registries.has_image(BACKEND_REPOSITORY, tag):
            push_light(tag)
    for tag, program in BROKEN.items():
        if not registries.has_image(BACKEND_REPOSITORY, tag):
            push_broken(tag, program)


def _build_and_push(context: Path, tag: str) -> None:
    image = f"ktrdr-lab/broken:{tag}"
    run(docker(), "build", "--quiet", "--tag", image, str(context))
    registries.push_image(image, BACKEND_REPOSITORY, tag)
    registries.push_image(NFS, NFS_REPOSITORY, tag)
    run(docker(), "image", "rm", image)
