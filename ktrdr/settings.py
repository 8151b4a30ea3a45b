"""Settings of the runtime: read once at start from the environment, then frozen.

Every variable is set as ``NAME``, or as ``NAME_FILE``, the path of a file with its value. The table
in ``docs/environment.md`` is generated from these classes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    ValidationError,
    field_validator,
    model_validator,
)

from ktrdr.errors import ConfigurationError
from ktrdr.schemas import NAME_PATTERN, WorkerType
from ktrdr.secret import Secret
from ktrdr.tokens import MINIMUM_SECRET_LENGTH


def _as_secret(value: object) -> object:
    return Secret(value) if isinstance(value, str) else value


SecretText = Annotated[Secret, BeforeValidator(_as_secret)]


class Settings(BaseModel):
    """Settings that backend and workers share."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    db_host: str = Field(default="db", description="Host of PostgreSQL.")
    db_port: int = Field(default=5432, ge=1, le=65535, description="Port of PostgreSQL.")
    db_name: str = Field(default="ktrdr", description="Name of the database.")
    db_user: SecretText = Field(description="Role that owns the schema.")
    db_password: SecretText = Field(description="That role's password.")
    otlp_endpoint: str | None = Field(
        default=None,
        description="OTLP gRPC collector, such as `http://jaeger:4317`; empty: no traces.",
    )
    shared_mount_path: Path = Field(
        default=Path("/mnt/shared"), description="Shared directory with data, results and models."
    )
    shared_restart_s: float = Field(
        default=60,
        ge=0,
        description="Seconds after which an idle service without the right shared directory ends, "
        "to be started again with what is mounted then; 0: never.",
    )
    environment: str = Field(
        default="homelab", description="Value of `deployment.environment.name` in traces."
    )
    image_tag: str = Field(default="unknown", description="Tag under which the image was deployed.")
    ktrdr_commit: str = Field(
        default="unknown", description="Commit that the image was built from; the image sets it."
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Lowest level that is logged.",
    )

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the settings from ``environment``; an empty value counts as unset.

        Raises:
            ConfigurationError: Names every missing or invalid variable, without its value.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for field in cls.model_fields:
            name = field.upper()
            file = environment.get(f"{name}_FILE")
            if file:
                try:
                    # The exact content, including newlines.
                    text = Path(file).read_bytes().decode()
                    if text:
                        values[field] = text
                except (OSError, UnicodeDecodeError) as exc:
                    problems.append(f"{name}_FILE cannot be read ({type(exc).__name__})")
            elif environment.get(name):
                values[field] = environment[name]
        try:
            settings = cls(**values)
        except ValidationError as exc:
            problems += [_describe(error) for error in exc.errors(include_input=False)]
        if problems:
            raise ConfigurationError(
                "invalid environment: " + "; ".join(problems),
                hint="Set the variables as docs/environment.md describes, then start again.",
            )
        return settings


def _describe(error: Mapping[str, Any]) -> str:
    reason = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return reason
    name = str(error["loc"][0]).upper()
    return f"{name} is not set" if error["type"] == "missing" else f"{name} is invalid ({reason})"


def _check_length(value: Secret) -> Secret:
    if len(value.reveal()) < MINIMUM_SECRET_LENGTH:
        raise ValueError(f"shorter than {MINIMUM_SECRET_LENGTH} characters")
    return value


class BackendSettings(Settings):
    """Settings of the backend."""

    jwt_secret: Annotated[SecretText, AfterValidator(_check_length)] = Field(
        description="Key that signs and verifies tokens; at least 32 characters."
    )
    jwt_secret_previous: SecretText | None = Field(
        default=None,
        description="Secret before a rotation; its tokens are valid until "
        "`JWT_SECRET_PREVIOUS_UNTIL`.",
    )
    jwt_secret_previous_until: AwareDatetime | None = Field(
        default=None,
        description="End of a rotation's overlap, such as `2026-12-01T00:00Z`.",
    )
    bad_tokens_a_minute: int = Field(
        default=20, ge=1, description="Bad tokens per minute after which an address is blocked."
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins whose pages may call the API from a browser, separated by commas; "
        "none by default.",
    )
    database_deadline_s: float = Field(
        default=45,
        gt=0,
        description="Seconds that the backend waits for the database at its start.",
    )
    health_check_interval_s: float = Field(
        default=10, gt=0, description="Seconds between two health checks of a worker."
    )
    health_check_timeout_s: float = Field(
        default=5, gt=0, description="Seconds within which a worker must answer a health check."
    )
    health_check_failures: int = Field(
        default=3,
        ge=1,
        description="Failed health checks in a row after which a worker is unavailable.",
    )
    sweep_every_s: float = Field(
        default=300,
        gt=0,
        description="Seconds between two searches for files that killed workers left behind.",
    )
    worker_forget_after_s: float = Field(
        default=300,
        gt=0,
        description="Seconds without a passed health check after which a worker is removed.",
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if (self.jwt_secret_previous is None) != (self.jwt_secret_previous_until is None):
            raise ValueError(
                "set both JWT_SECRET_PREVIOUS and JWT_SECRET_PREVIOUS_UNTIL, or neither"
            )
        return self


class WorkerSettings(Settings):
    """Settings of a worker."""

    ktrdr_api_url: HttpUrl = Field(description="URL of the backend, such as `http://backend:8000`.")
    worker_type: WorkerType = Field(description="`backtesting` or `training`.")
    worker_port: int = Field(ge=1, le=65535, description="Port that the worker listens on.")
    worker_public_base_url: HttpUrl = Field(
        description="URL at which the backend reaches this worker; it has no default."
    )
    worker_id: str = Field(
        default="",
        pattern=f"{NAME_PATTERN}|^$",
        description="Stable id; default: type, host and port of the public URL.",
    )
    worker_token: SecretText = Field(description="Token of role `worker` for this node.")
    lease_s: float = Field(
        default=30,
        gt=1,
        description="Seconds until another worker takes over from one that stopped responding.",
    )
    child_memory_mb: int | None = Field(
        default=None,
        ge=128,
        description="MiB of memory that an operation may use; default: the container's limit "
        "minus the worker's own share.",
    )
    child_variables: str = Field(
        default="", description="Further variables that an operation's process inherits."
    )
    stop_grace_s: float = Field(
        default=20,
        gt=0,
        description="Seconds that a stopping worker waits for its operation's checkpoint.",
    )
