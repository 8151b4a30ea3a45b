"""Tests of the .env files and of the page that documents all variables."""

from __future__ import annotations

import re

import pytest

from docs.generate_environment import compose_variables, documented_variables, render_page

SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|DB_USER|KEY")


def variables(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", [".env.core", ".env.workers"])
def test_no_committed_env_file_names_a_secret(root, name):
    assert not [variable for variable in variables(root / name) if SECRET.search(variable)]


def test_core_has_the_values_of_the_specification(root):
    expected = {
        "DB_HOST": "db",
        "DB_PORT": "5432",
        "DB_NAME": "ktrdr",
        "OTLP_ENDPOINT": "http://jaeger:4317",
        "SHARED_MOUNT_PATH": "/mnt/shared",
    }
    assert expected.items() <= variables(root / ".env.core").items()


def test_workers_have_the_values_of_the_specification(root):
    zone = "ktrdr.home.mynerd.place"
    expected = {
        "KTRDR_API_URL": f"http://backend.{zone}:8000",
        "WORKER_HOSTNAME": f"workers-b.{zone}",
        "SHARED_MOUNT_PATH": "/mnt/shared",
        "OTLP_ENDPOINT": f"http://backend.{zone}:4317",
        "DB_HOST": f"backend.{zone}",
        "DB_PORT": "5432",
        "DB_NAME": "ktrdr",
    }
    assert expected.items() <= variables(root / ".env.workers").items()


def test_every_variable_of_a_committed_env_file_is_used(root):
    for name, compose in ((".env.core", "core"), (".env.workers", "workers")):
        text = (root / f"docker-compose.{compose}.yml").read_text(encoding="utf-8")
        # Compose itself uses its own.
        for variable in variables(root / name).keys() - {"COMPOSE_PROFILES"}:
            assert f"${{{variable}" in text, f"{variable} in {name}"


def test_development_secrets_are_long_enough_and_marked_as_such(root):
    values = variables(root / ".env.dev.example")
    assert len(values["JWT_SECRET"]) >= 32
    for name in ("JWT_SECRET", "DB_PASSWORD", "GF_ADMIN_PASSWORD"):
        assert values[name].startswith("development-only")


def test_a_developers_own_env_file_is_not_committed(root):
    assert ".env.dev" in (root / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_every_variable_that_compose_reads_is_documented():
    assert compose_variables() - documented_variables() == set()


def test_every_variable_that_the_cli_names_is_documented(root):
    names = set()
    for package in ("cli", "client", "deployment"):
        for file in (root / "ktrdr" / package).rglob("*.py"):
            # Only hooks read their variables, which docs/maintenance.md lists.
            if file.name == "hooks.py":
                continue
            text = file.read_text(encoding="utf-8")
            names |= set(re.findall(r'"((?:KTRDR|OP)_[A-Z_]*[A-Z])"', text))
    assert names - documented_variables() == set()


def test_the_page_of_variables_is_up_to_date(root):
    page = (root / "docs" / "environment.md").read_text(encoding="utf-8")
    assert page == render_page(), "run `make docs`"
