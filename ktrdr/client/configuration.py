"""Address and token of the backend, from the environment and the user's files."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ktrdr.errors import ConfigurationError, SecretsError
from ktrdr.secret import Secret

DEFAULT_API_URL: Final = "http://backend.ktrdr.home.mynerd.place:8000"


def read_api_url(environ: Mapping[str, str], *, default: str = DEFAULT_API_URL) -> str:
    """Return ``KTRDR_API_URL``, the configuration file's ``api_url``, or the default.

    Raises:
        ConfigurationError: The address is not an HTTP URL, or the file cannot be read.
    """
    configured = environ.get("KTRDR_API_URL") or read_config(environ).get("api_url")
    url = str(configured or default).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{url!r} is not the address of a backend",
            hint="Set KTRDR_API_URL to something like http://backend:8000.",
        )
    return url


def read_token(environ: Mapping[str, str]) -> Secret:
    """Return ``KTRDR_TOKEN``, or the content of the token file.

    Earlier releases saved the token as ``token`` in the configuration file. That entry is still
    read where there is no token file.

    Raises:
        SecretsError: There is no token.
        ConfigurationError: A file cannot be read.
    """
    path = token_path(environ)
    token: object = environ.get("KTRDR_TOKEN") or (_read_text(path, "token file") or "").strip()
    token = token or read_config(environ).get("token")
    if not isinstance(token, str) or not token:
        raise SecretsError(
            f"there is no token in KTRDR_TOKEN or {path}",
            hint="Create one with `ktrdr token create --save`.",
        )
    return Secret(token)


def save_token(path: Path, token: Secret) -> None:
    """Write the token file, readable by its owner only.

    The file is replaced by rename, with mode 0600. A missing directory is created with mode 0700.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    path = path.resolve()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp creates with mode 0600, so that no other user can read the token at any moment.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{token.reveal()}\n")
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise ConfigurationError(
            f"the token file {path} cannot be written: {exc.strerror}",
            hint="Fix the directory's permissions, or run the command without --save.",
        ) from exc


def token_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the token file, which is beside the configuration file.

    With ``KTRDR_CONFIG=DIR/NAME.toml`` it is ``DIR/NAME.token``, so that each configuration file
    has a token of its own.
    """
    config = _config_path(environ)
    return (
        config.with_suffix(".token") if environ.get("KTRDR_CONFIG") else config.with_name("token")
    )


def read_config(environ: Mapping[str, str]) -> Mapping[str, object]:
    """Return the content of the configuration file, empty if it is missing.

    Raises:
        ConfigurationError: The file cannot be read, or is not TOML.
    """
    path = _config_path(environ)
    former = Path.home() / ".config" / "ktrdr" / "config.toml"
    if not (environ.get("KTRDR_CONFIG") or path.exists()) and former.exists():
        # The release before did not know XDG_CONFIG_HOME. The next one will not read this file.
        path = former
    try:
        return tomllib.loads(_read_text(path, "configuration file") or "")
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(
            f"the configuration file {path} is not TOML: {exc}",
            hint="Correct the file, or delete it.",
        ) from exc


def _config_path(environ: Mapping[str, str]) -> Path:
    """Return ``KTRDR_CONFIG`` or ``ktrdr/config.toml`` in ``XDG_CONFIG_HOME`` or ``~/.config``."""
    if configured := environ.get("KTRDR_CONFIG"):
        return Path(configured)
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".config") / "ktrdr" / "config.toml"


def _read_text(path: Path, label: str) -> str | None:
    """Return the text of a file, or None if it does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(
            f"the {label} {path} cannot be read: {reason}",
            hint="Correct the file, or delete it.",
        ) from exc
