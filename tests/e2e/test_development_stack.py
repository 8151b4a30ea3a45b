"""Tests of `docker-compose.dev.yml` with real containers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token
from lab import images
from lab.config import ROOT
from lab.engine import docker
from lab.shell import run, succeeds, wait_until
from tests.e2e.conftest import BIN, Lab

PORTS = ("DB", "API", "PROMETHEUS", "GRAFANA", "JAEGER", "OTLP", "BACKTEST", "TRAINING")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


@dataclass(frozen=True)
class Development:
    """Checkout with a development stack."""

    checkout: Path
    env: dict[str, str]

    def compose(self, *arguments: str, files: tuple[str, ...] = ("dev",)) -> None:
        """Run a Compose command."""
        chosen = [word for name in files for word in ("-f", f"docker-compose.{name}.yml")]
        done = subprocess.run(
            [str(BIN / "docker-compose"), "-p", "ktrdr-dev-test", *chosen, *arguments],
            cwd=self.checkout,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def get(self, path: str, token: str | None = None) -> Any:
        """Return a response of the backend."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.env['DEV_API_PORT']}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as it:
            return json.load(it)

    def title(self) -> str:
        """Title of the API, from the code; empty while the backend restarts."""
        try:
            title: str = self.get("/api/v1/openapi.json")["info"]["title"]
        except OSError:
            return ""
        return title

    def shows(self, title: str) -> bool:
        """Return True if the API has this title."""
        return self.title() == title

    def retitle(self, title: str) -> None:
        """Change the title in the code."""
        source = self.checkout / "ktrdr/api/app.py"
        before = f'title="{self.title()}"'
        assert before in source.read_text()
        source.write_text(source.read_text().replace(before, f'title="{title}"'))


@pytest.fixture(scope="module")
def development(bare_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Development]:
    checkout = tmp_path_factory.mktemp("development") / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    # The containers' user must be able to read it.
    for place in (checkout, *checkout.parents[:3]):
        place.chmod(0o755)
    names = {
        images.stand_in_image(service): name
        for service, name in images.third_party_images().items()
    }
    names["ktrdr-lab/ktrdr-backend"] = "ktrdr-backend:dev"
    ours = {
        image: name
        for image, name in names.items()
        if not succeeds(docker(), "image", "inspect", name)
    }
    for image, name in ours.items():
        run(docker(), "tag", image, name)
    ports = dict(zip((f"DEV_{name}_PORT" for name in PORTS), free_ports(len(PORTS)), strict=True))
    env = {**os.environ, **{name: str(port) for name, port in ports.items()}}
    stack = Development(checkout, env)
    try:
        stack.compose("--profile", "workers", "up", "--detach", "--wait", "--no-build")
        yield stack
    finally:
        stack.compose("--profile", "workers", "down", "--volumes", "--timeout", "5")
        for name in ours.values():
            run(docker(), "image", "rm", name, check=False)


def test_the_stack_and_a_worker_of_each_type_start_without_any_editing(
    development: Development,
) -> None:
    health = development.get("/api/v1/health")
    assert (health["status"], health["version"]["image_tag"]) == ("ok", "dev")
    token = create_token(
        Secret("development-only-jwt-secret-0123456789"),
        subject="test",
        role=Role.READER,
        lifetime=timedelta(minutes=5),
        now=datetime.now(UTC),
    ).reveal()
    wait_until(
        "both workers are registered",
        lambda: (
            {each["worker_type"] for each in development.get("/api/v1/workers", token)}
            == {"backtesting", "training"}
        ),
        30,
    )
    for service, path in (("GRAFANA", "/api/health"), ("JAEGER", "/api/v3/services")):
        url = f"http://127.0.0.1:{development.env[f'DEV_{service}_PORT']}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.status == 200


def test_an_edit_takes_effect_within_three_seconds(development: Development) -> None:
    took = []
    for title in ("KTRDR once", "KTRDR twice", "KTRDR thrice"):
        development.retitle(title)
        began = time.monotonic()
        wait_until("the new answer", partial(development.shows, title), 20)
        took.append(time.monotonic() - began)
    # The best of three, because the machine may be busy.
    assert min(took) < 3, took


def test_the_image_override_runs_the_built_image(development: Development) -> None:
    image = Development(
        development.checkout,
        {**development.env, "IMAGE_NAME": "ktrdr-lab/ktrdr-backend", "IMAGE_TAG": "latest"},
    )
    image.compose("up", "--detach", "--wait", "backend", files=("dev", "dev.image"))
    assert image.title() == "KTRDR"
    assert image.get("/api/v1/health")["version"]["image_tag"] == "latest"
