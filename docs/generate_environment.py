"""Generator of docs/environment.md, the page with every environment variable.

    .venv/bin/python -m docs.generate_environment

Variables of the runtime come from the settings classes. Variables of the compose files and of the
laptop are described here. A test fails if a variable is missing in both places.
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

COMPOSE: Final = {
    "BACKEND_PORT": ("core", "Published port of the backend; 8000."),
    "BACKEND_SECRETS": (
        "core",
        "With delivery `tmpfs`: fingerprint of the backend's secrets; set by `ktrdr deploy`.",
    ),
    "COMPOSE_PROFILES": (
        "core",
        "Variable of Compose: `nfs` starts the NFS server. `ktrdr deploy` follows `core.nfs`.",
    ),
    "CORE_BIND_ADDRESS": (
        "core",
        "Listening address of PostgreSQL (5432), OTLP (4317) and NFS (2049), for worker nodes.",
    ),
    "CORE_PUBLIC_ADDRESS": (
        "core",
        "Listening address of backend (8000), Grafana (3000) and Jaeger (16686) on the core host.",
    ),
    "GF_ADMIN_PASSWORD": ("core", "**Secret.** Password of Grafana's user `admin`."),
    "GRAFANA_CONFIG_HASH": (
        "core",
        "SHA-256 of `monitoring/grafana/`; set by `ktrdr deploy`. A change recreates Grafana.",
    ),
    "GRAFANA_PORT": ("core", "Published port of Grafana; 3000."),
    "GRAFANA_SECRETS": ("core", "With delivery `tmpfs`: fingerprint of Grafana's secrets."),
    "IMAGE_NAME": ("core, workers", "Image of backend and workers, without tag."),
    "JAEGER_PORT": ("core", "Published port of Jaeger's web interface; 16686."),
    "NFS_IMAGE_NAME": ("core", "Image of the NFS server, without tag; the tag is the same."),
    "NFS_PORT": ("core", "Published port of the NFS server; 2049."),
    "OTLP_PORT": ("core", "Published port of Jaeger's OTLP receiver; 4317."),
    "POSTGRES_MAX_CONNECTIONS": (
        "core",
        "Connections that PostgreSQL allows; `ktrdr deploy` computes it from the workers; 100.",
    ),
    "POSTGRES_PORT": ("core", "Published port of PostgreSQL; 5432."),
    "PROMETHEUS_CONFIG_HASH": (
        "core",
        "SHA-256 of `monitoring/` without `grafana/`, as above. A change recreates Prometheus.",
    ),
    "PROMETHEUS_PORT": (
        "core",
        "Published port of Prometheus, on 127.0.0.1 of the core host; 9090.",
    ),
    "SHARED_HOST_PATH": (
        "core, workers",
        "Shared directory on the host; see [storage.md](storage.md).",
    ),
    "WORKER_BIND_ADDRESS": (
        "workers",
        "Listening address of a node's workers (5003 to 5008); the core host must reach it.",
    ),
    "WORKER_SECRETS": ("workers", "With delivery `tmpfs`: fingerprint of the workers' secrets."),
    "WORKER_HOSTNAME": (
        "workers",
        "DNS name of the node; with the worker's port, it forms `WORKER_PUBLIC_BASE_URL`.",
    ),
}

DEVELOPMENT: Final = {
    "DEV_API_PORT": "Port of the backend on 127.0.0.1.",
    "DEV_BACKTEST_PORT": "Port of the backtest worker on 127.0.0.1.",
    "DEV_DB_PORT": "Port of PostgreSQL on 127.0.0.1.",
    "DEV_GRAFANA_PORT": "Port of Grafana on 127.0.0.1.",
    "DEV_JAEGER_PORT": "Port of Jaeger's web interface on 127.0.0.1.",
    "DEV_OTLP_PORT": "Port of Jaeger's OTLP receiver on 127.0.0.1.",
    "DEV_PROMETHEUS_PORT": "Port of Prometheus on 127.0.0.1.",
    "DEV_TRAINING_PORT": "Port of the training worker on 127.0.0.1.",
    "PYTHON_BASE": "Base image for the build, instead of the Dockerfile's default.",
}

LAPTOP: Final = {
    "KTRDR_API_URL": "URL of the backend, such as `http://backend.ktrdr.home.mynerd.place:8000`.",
    "KTRDR_CONFIG": "Configuration file of the CLI, instead of `ktrdr/config.toml` in "
    "`$XDG_CONFIG_HOME`, by default `~/.config`. The token file of `DIR/NAME.toml` is "
    "`DIR/NAME.token`, instead of `ktrdr/token` there.",
    "KTRDR_DEBUG": "Set to anything to show the traceback of an internal error.",
    "KTRDR_DEPLOY_TAG": "Image tag to deploy, like `--tag`.",
    "KTRDR_INVENTORY": "Inventory file, like `--inventory`; default `deploy/inventory.yml`.",
    "KTRDR_INVENTORY_…": "A value of the inventory, like `--set`; `KTRDR_INVENTORY_CORE_HOST` "
    "is `core.host`.",
    "KTRDR_PERFORMER": "User shown in histories and locks; default: user name and machine.",
    "KTRDR_SECRET_…": "**Secret.** A field for `secrets.source: environment`, such as "
    "`KTRDR_SECRET_DB_PASSWORD`.",
    "KTRDR_SSH_CONFIG": "Configuration file for ssh, instead of the user's own.",
    "KTRDR_TOKEN": "**Secret.** Token for the backend's API, instead of the token file.",
    "NO_COLOR": "Set to anything to disable colours.",
    "OP_ACCOUNT": "Account of 1Password, unless `secrets.account` names one; read by `op` itself.",
    "OP_CONNECT_HOST": "URL of 1Password Connect; read by `op` itself.",
    "OP_CONNECT_TOKEN": "**Secret.** Token of 1Password Connect; read by `op` itself.",
    "OP_SERVICE_ACCOUNT_TOKEN": "**Secret.** Token of a 1Password service account; read by "
    "`op` itself.",
    "OP_SESSION": "**Secret.** Token of a 1Password session; read by `op` itself.",
    "SOPS_AGE_KEY": "**Secret.** Private key that decrypts the file of secrets.",
    "SOPS_AGE_KEY_FILE": "File with that key, if the inventory names none.",
    "XDG_CONFIG_HOME": "Directory of the token file `ktrdr/token`, instead of `~/.config`.",
}

INTRODUCTION: Final = """\
# Environment variables

<!-- Generated by docs/generate_environment.py (`make docs`); do not edit. -->

This page lists every environment variable that KTRDR reads.

Backend and workers read their settings once, at start. Each setting can also come from a file:
`DB_PASSWORD_FILE=/run/secrets/db_password` is read as `DB_PASSWORD`. An empty value counts as
missing. If settings are missing or invalid, the program names all of them and exits with code 3.

`ktrdr deploy` reads values that are not secret from `.env.core` and `.env.workers`. Values of the
inventory take precedence. Secrets are passed in the environment of one remote command; see
[secrets.md](secrets.md).
"""


def render_page() -> str:
    """Return the whole page."""
    sections = [
        INTRODUCTION,
        "## Backend and workers\n",
        *_table(("variable", "default", "meaning"), _settings_rows(Settings, ())),
        "\n## Backend only\n",
        *_table(
            ("variable", "default", "meaning"),
            _settings_rows(BackendSettings, _variable_names(Settings)),
        ),
        "\n## Workers only\n",
        *_table(
            ("variable", "default", "meaning"),
            _settings_rows(WorkerSettings, _variable_names(Settings)),
        ),
        "\n## Compose files\n\nRead by the compose files of hosts, besides the settings above.\n",
        *_table(
            ("variable", "stack", "default in `.env.*`", "meaning"),
            (
                (f"`{name}`", stack, _default_in_env_files(name), meaning)
                for name, (stack, meaning) in COMPOSE.items()
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
        "\n## Laptop\n\nRead by the `ktrdr` command.\n",
        *_table(
            ("variable", "meaning"), ((f"`{name}`", meaning) for name, meaning in LAPTOP.items())
        ),
    ]
    return "\n".join(sections) + "\n"


def compose_variables() -> set[str]:
    """Return the names of the variables that compose files interpolate or pass through."""
    names: set[str] = set()
    for file in COMPOSE_FILES:
        text = re.sub(r"^\s*#.*", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
        names.update(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
        names.update(re.findall(r"^\s+([A-Z_]+):\s*$", text, flags=re.MULTILINE))
    return names


def documented_variables() -> set[str]:
    """Return the names of the variables that the page describes."""
    return (
        _variable_names(BackendSettings)
        | _variable_names(WorkerSettings)
        | COMPOSE.keys()
        | DEVELOPMENT.keys()
        | LAPTOP.keys()
    )


def _variable_names(settings: type[Settings]) -> set[str]:
    return {field.upper() for field in settings.model_fields}


def _settings_rows(
    settings: type[Settings], without: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    for field, info in settings.model_fields.items():
        name = field.upper()
        if name not in without:
            secret = "**Secret.** " if info.annotation is Secret else ""
            yield f"`{name}`", _default(info), secret + (info.description or "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    return f"`{info.default}`" if info.default not in (None, "", ()) else "–"


def _default_in_env_files(name: str) -> str:
    values = [
        value
        for file in (".env.core", ".env.workers")
        if (value := _env_file(ROOT / file).get(name)) is not None
    ]
    return ", ".join(f"`{value}`" for value in dict.fromkeys(values)) or "–"


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
    TARGET.write_text(render_page(), encoding="utf-8")
