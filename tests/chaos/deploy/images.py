"""What is deployed: two versions that are well, and some that are not."""

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
# What they are made of: the image of the first time, whatever is built meanwhile.
BASE = f"{NAME}/chaos:base"
GOOD = ("chaos-1", "chaos-2")
# The same, but for workers that start ten times faster, since they do no work: see light.py.
LIGHT = ("light-1", "light-2")
_LIGHT_WORKER = Path(__file__).with_name("worker")
_LIGHT = f"""FROM {BASE}
USER root
RUN mv /opt/ktrdr/bin/uvicorn /opt/ktrdr/bin/uvicorn-itself
COPY uvicorn /opt/ktrdr/bin/uvicorn
COPY light.py /opt/light.py
USER 10001:10001
"""
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


def push_light(tag: str) -> None:
    """Puts an image into the registry whose workers are light ones."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as place:
        context = Path(place)
        shutil.copytree(_LIGHT_WORKER, context, dirs_exist_ok=True)
        (context / "Dockerfile").write_text(_LIGHT)
        _build_and_push(context, tag)


def other_than(tag: str, pair: tuple[str, str]) -> str:
    """The second of two tags, or the first where that is it."""
    return pair[0] if tag == pair[1] else pair[1]


def push_fresh(tag: str) -> None:
    """Puts an image into the registry that is well, and of which no host has the last layer."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-image-") as place:
        context = Path(place)
        (context / "fresh").write_bytes(secrets.token_bytes(512 * 1024))
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY fresh /fresh\n")
        _build_and_push(context, tag)


def push_all() -> None:
    """Puts all of them there that are not there yet."""
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
