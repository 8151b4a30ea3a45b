"""Writes docs/environment.md: every environment variable, from where it is defined.

    .venv/bin/python -m docs.generate_environment

What the programs read comes from the settings classes. What compose files and the laptop read is
described here; a test fails when one of them reads a variable that stands in neither place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo

from ktrdr.secret import Secret
from ktrdr.settings import BackendSettings, Settings, WorkerSettings

ROOT: Final = Path(__file__).parent.parent
TARGET: Final = ROOT / "docs" / "environment.md"
COMPOSE_FILES: Final = (
    "docker-compose.core.yml",
    "docker-compose.workers.yml",
    "docker-compose.dev.yml",
    "docker-compose.dev.image.yml",
    "deploy/tmpfs/core.yml",
    "deploy/tmpfs/workers.yml",
)

HOSTS: Final = {
    "BACKEND_PORT": ("core", "Published port of the backend; 8000."),
    "BACKEND_SECRETS": (
        "core",
        "With delivery `tmpfs`: fingerprint of the backend's secrets, set by `ktrdr deploy`.",
    ),
    "CORE_BIND_ADDRESS": (
        "core",
        "Where PostgreSQL (5432), OTLP (4317) and NFS (2049) listen, for the worker nodes alone.",
    ),
    "CORE_PUBLIC_ADDRESS": (
        "core",
        "Where the backend (8000), Grafana (3000) and Jaeger (16686) listen on the core host.",
    ),
    "GF_ADMIN_PASSWORD": ("core", "**Secret.** Password of Grafana's user `admin`."),
    "GRAFANA_CONFIG_HASH": (
        "core",
        "SHA-256 of `monitoring/grafana/`, set by `ktrdr deploy`; recreates Grafana on a change.",
    ),
    "GRAFANA_PORT": ("core", "Published port of Grafana; 3000."),
    "GRAFANA_SECRETS": ("core", "With delivery `tmpfs`: fingerprint of Grafana's."),
    "IMAGE_NAME": ("core, workers", "The image of backend and workers, without its tag."),
    "JAEGER_PORT": ("core", "Published port of Jaeger's pages; 16686."),
    "NFS_IMAGE_NAME": ("core", "The image of the NFS server, without its tag; same tag."),
    "NFS_PORT": ("core", "Published port of the NFS server; 2049."),
    "OTLP_PORT": ("core", "Published port of Jaeger's OTLP receiver; 4317."),
    "POSTGRES_PORT": ("core", "Published port of PostgreSQL; 5432."),
    "PROMETHEUS_CONFIG_HASH": (
        "core",
        "SHA-256 of `monitoring/` without `grafana/`, set by `ktrdr deploy`; as for Grafana.",
    ),
    "PROMETHEUS_PORT": (
        "core",
        "Published port of Prometheus, on 127.0.0.1 of the core host; 9090.",
    ),
    "SHARED_HOST_PATH": (
        "core, workers",
        "The shared directory on the host: on core its own disk, on workers the NFS mount.",
    ),
    "WORKER_BIND_ADDRESS": (
        "workers",
        "Where a node's workers (5003 to 5008) listen; the core host must reach it.",
    ),
    "WORKER_SECRETS": ("workers", "With delivery `tmpfs`: fingerprint of the workers'."),
    "WORKER_HOSTNAME": (
        "workers",
        "The node's DNS name; `WORKER_PUBLIC_BASE_URL` is made of it and the worker's port.",
    ),
}

DEVELOPMENT: Final = {
    "DEV_API_PORT": "Port of the backend on 127.0.0.1.",
    "DEV_BACKTEST_PORT": "Port of the backtest worker on 127.0.0.1.",
    "DEV_DB_PORT": "Port of PostgreSQL on 127.0.0.1.",
    "DEV_GRAFANA_PORT": "Port of Grafana on 127.0.0.1.",
    "DEV_JAEGER_PORT": "Port of Jaeger's pages on 127.0.0.1.",
    "DEV_OTLP_PORT": "Port of Jaeger's OTLP receiver on 127.0.0.1.",
    "DEV_PROMETHEUS_PORT": "Port of Prometheus on 127.0.0.1.",
    "DEV_TRAINING_PORT": "Port of the training worker on 127.0.0.1.",
    "PYTHON_BASE": "Base image to build with, instead of the Dockerfile's own.",
}

LAPTOP: Final = {
    "KTRDR_API_URL": "The backend, such as `http://backend.ktrdr.home.mynerd.place:8000`.",
    "KTRDR_CONFIG": "The CLI's configuration file, instead of `~/.config/ktrdr/config.toml`. The "
    "token file of `NAME.toml` is `NAME.token` beside it, instead of `~/.config/ktrdr/token`.",
    "KTRDR_DEBUG": "Set to anything: an internal error shows its traceback.",
    "KTRDR_DEPLOY_TAG": "The image tag to deploy, as `--tag`.",
    "KTRDR_INVENTORY": "The inventory, as `--inventory`; default `deploy/inventory.yml`.",
    "KTRDR_INVENTORY_…": "One value of the inventory: `KTRDR_INVENTORY_CORE_HOST` is `core.host`.",
    "KTRDR_PERFORMER": "Who deploys, as histories and locks say it; by default user and machine.",
    "KTRDR_SECRET_…": "**Secret.** One field for `secrets.source: environment`, such as "
    "`KTRDR_SECRET_DB_PASSWORD`.",
    "KTRDR_SSH_CONFIG": "A configuration file for ssh, instead of the user's own.",
    "KTRDR_TOKEN": "**Secret.** The token for the backend, instead of the token file.",
    "NO_COLOR": "Set to anything: no colours.",
    "OP_CONNECT_HOST": "1Password Connect's URL; read by `op` itself.",
    "OP_CONNECT_TOKEN": "**Secret.** 1Password Connect's token; read by `op` itself.",
    "OP_SERVICE_ACCOUNT_TOKEN": "**Secret.** A 1Password service account; read by `op` itself.",
    "OP_SESSION": "**Secret.** A 1Password session; read by `op` itself.",
    "SOPS_AGE_KEY": "**Secret.** The private key that opens an encrypted file of secrets.",
    "SOPS_AGE_KEY_FILE": "The file with that key, where the inventory names none.",
    "XDG_CONFIG_HOME": "The directory of `ktrdr/token`, the token file, instead of `~/.config`.",
}

INTRODUCTION: Final = """\
# Environment variables

<!-- Made by docs/generate_environment.py (`make docs`); do not edit. -->

Backend and workers read their settings once, at start. Every one of them may come from a file
instead: `DB_PASSWORD_FILE=/run/secrets/db_password` is read as `DB_PASSWORD`. An empty value counts
as not given. Settings that are missing or wrong are named all at once, and the program ends with
code 3.

`ktrdr deploy` takes non-secret values from `.env.core` and `.env.workers`, lets the inventory's win
over them, and passes secrets in the environment of one remote command: see
[secrets.md](secrets.md).
"""


def document() -> str:
    """The whole page."""
    sections = [
        INTRODUCTION,
        "## Backend and workers\n",
        *_table(("variable", "default", "meaning"), _settings(Settings, ())),
        "\n## The backend alone\n",
        *_table(("variable", "default", "meaning"), _settings(BackendSettings, _names(Settings))),
        "\n## Workers alone\n",
        *_table(("variable", "default", "meaning"), _settings(WorkerSettings, _names(Settings))),
        "\n## What compose files read besides\n",
        *_table(
            ("variable", "stack", "default", "meaning"),
            (
                (f"`{name}`", stack, _default_in_env_files(name), meaning)
                for name, (stack, meaning) in HOSTS.items()
            ),
        ),
        "\n## Development\n\nRead by `docker-compose.dev.yml`, besides `.env.dev`.\n",
        *_table(
            ("variable", "default", "meaning"),
            (
                (f"`{name}`", _default_in_compose(name), meaning)
                for name, meaning in DEVELOPMENT.items()
            ),
        ),
        "\n## The laptop\n\nRead by the `ktrdr` command.\n",
        *_table(
            ("variable", "meaning"), ((f"`{name}`", meaning) for name, meaning in LAPTOP.items())
        ),
    ]
    return "\n".join(sections) + "\n"


def read_by_compose() -> set[str]:
    """The names of all variables that compose files read: interpolated or passed through."""
    names: set[str] = set()
    for file in COMPOSE_FILES:
        text = re.sub(r"^\s*#.*", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
        names.update(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
        names.update(re.findall(r"^\s+([A-Z_]+):\s*$", text, flags=re.MULTILINE))
    return names


def described() -> set[str]:
    """The names of all variables that the page describes."""
    return (
        _names(BackendSettings)
        | _names(WorkerSettings)
        | HOSTS.keys()
        | DEVELOPMENT.keys()
        | LAPTOP.keys()
    )


def _names(settings: type[Settings]) -> set[str]:
    return {field.upper() for field in settings.model_fields}


def _settings(settings: type[Settings], without: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for field, info in settings.model_fields.items():
        name = field.upper()
        if name not in without:
            secret = "**Secret.** " if info.annotation is Secret else ""
            yield f"`{name}`", _default(info), secret + (info.description or "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    return f"`{info.default}`" if info.default not in (None, "") else "–"


def _default_in_env_files(name: str) -> str:
    found = {
        value
        for file in (".env.core", ".env.workers")
        if (value := _env_file(ROOT / file).get(name)) is not None
    }
    return ", ".join(f"`{value}`" for value in sorted(found)) or "–"


def _default_in_compose(name: str) -> str:
    text = (ROOT / "docker-compose.dev.yml").read_text(encoding="utf-8")
    match = re.search(rf"\$\{{{name}:-([^}}]*)\}}", text)
    return f"`{match.group(1)}`" if match else "–"


def _env_file(path: Path) -> Mapping[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
