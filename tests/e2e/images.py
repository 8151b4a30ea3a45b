"""Images of tests, derived from the image of the checkout."""

from __future__ import annotations

from pathlib import Path

from lab import registries
from lab.config import BACKEND_REPOSITORY, NFS_REPOSITORY
from lab.engine import docker
from lab.shell import run

BACKEND_IMAGE = "ktrdr-lab/ktrdr-backend"
# A program that starts but never answers.
SLEEPS = "#!/bin/sh\necho 'this backend sleeps'\nexec sleep 600\n"


def push_broken(tag: str, program: str, directory: Path) -> None:
    """Push an image in which uvicorn is replaced by another program."""
    (directory / "uvicorn").write_text(program)
    (directory / "uvicorn").chmod(0o755)
    push_derived(tag, "COPY uvicorn /opt/ktrdr/bin/uvicorn", directory)


def push_derived(tag: str, lines: str, directory: Path) -> None:
    """Push an image with additional lines in its Dockerfile."""
    (directory / "Dockerfile").write_text(f"FROM {BACKEND_IMAGE}\n{lines}\n")
    image = f"ktrdr-lab/derived:{tag}"
    run(docker(), "build", "--quiet", "--tag", image, str(directory))
    registries.push_image(image, BACKEND_REPOSITORY, tag)
    registries.push_image("ktrdr-lab/ktrdr-nfs-server", NFS_REPOSITORY, tag)
    run(docker(), "image", "rm", image)
