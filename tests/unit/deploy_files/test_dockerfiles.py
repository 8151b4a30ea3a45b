"""Dockerfiles of the images."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCKERFILES = ("deploy/Dockerfile", "deploy/nfs-server/Dockerfile")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_no_problem(root, name):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, root / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_dockerfile_requires_a_frontend_image(root, name):
    assert "syntax=" not in (root / name).read_text(encoding="utf-8")


def test_the_base_image_is_pinned_to_a_full_version(root):
    text = (root / "deploy/Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON_BASE=python:3\.\d+\.\d+-slim-trixie$", text, re.MULTILINE)


def test_every_stage_uses_the_replaceable_base_image(root):
    text = (root / "deploy/Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(stages) == {"${PYTHON_BASE}", "libraries"}


def test_the_image_runs_as_its_own_user(root):
    text = (root / "deploy/Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


def test_only_locked_packages_are_installed(root):
    text = (root / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"pip install [^&;]*", text)
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install


def test_a_change_of_code_changes_only_the_last_layers(root):
    text = (root / "deploy/Dockerfile").read_text(encoding="utf-8")
    final = text[text.rindex("FROM ${PYTHON_BASE}") :]
    assert final.index("/opt/ktrdr /opt/ktrdr") < final.index("/app /app")
    assert final.index("/app /app") < final.index("ARG GIT_COMMIT")
    libraries = text[: text.index("FROM libraries AS package")]
    assert "COPY ktrdr" not in libraries


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_copied_file_is_excluded_by_the_dockerignore_file(root, name):
    allowed = [
        line.removeprefix("!")
        for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    text = (root / name).read_text(encoding="utf-8")
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (root / source).exists(), source
            assert any(source == a or source.startswith(f"{a}/") for a in allowed), source
