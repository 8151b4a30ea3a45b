"""Keeps a token in the CLI's configuration file, which nobody else may read."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ktrdr.errors import ConfigurationError, SecretsError
from ktrdr.secret import Secret

_TOKEN_LINE: Final = re.compile(r"^[ \t]*token[ \t]*=.*$", re.MULTILINE)


def configuration_file(environ: Mapping[str, str]) -> Path:
    """Where the CLI keeps address and token: ``KTRDR_CONFIG``, or the usual place."""
    given = environ.get("KTRDR_CONFIG")
    return Path(given) if given else Path.home() / ".config" / "ktrdr" / "config.toml"


def token_in_use(environ: Mapping[str, str]) -> Secret:
    """The token that commands send: ``KTRDR_TOKEN``, or the configuration file's.

    Raises:
        SecretsError: There is none.
        ConfigurationError: The file cannot be read, or is not TOML.
    """
    given: object = environ.get("KTRDR_TOKEN")
    path = configuration_file(environ)
    given = given or read_configuration(path).get("token")
    if not isinstance(given, str) or not given:
        raise SecretsError(
            f"there is no token, neither in KTRDR_TOKEN nor in {path}",
            hint="Make one with `ktrdr token create --save`.",
        )
    return Secret(given)


def read_configuration(path: Path) -> Mapping[str, object]:
    """What the configuration file says; nothing when there is none.

    Raises:
        ConfigurationError: The file cannot be read, or is not TOML.
    """
    return _parsed(path, _text_of(path)) if path.exists() else {}


def save_token(path: Path, token: Secret) -> None:
    """Sets ``token`` in the file and leaves the rest of it as it is.

    The file appears whole or not at all, with mode 0600; a directory made for it has 0700.

    Raises:
        ConfigurationError: The file cannot be written, or is not TOML.
    """
    path = path.resolve()
    after = _with_token(path, _text_of(path) if path.exists() else "", token)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, after)
    except OSError as exc:
        raise ConfigurationError(
            f"the configuration file {path} cannot be written: {exc.strerror}",
            hint="Correct that, or name another file by KTRDR_CONFIG.",
        ) from exc


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(
            f"the configuration file {path} cannot be read: {reason}",
            hint="Correct that, or name another file by KTRDR_CONFIG.",
        ) from exc


def _with_token(path: Path, before: str, token: Secret) -> str:
    # A token is a JWT, whose characters need no escaping in TOML.
    line = f'token = "{token.reveal()}"'
    expected = _parsed(path, before) | {"token": token.reveal()}
    after, replaced = _TOKEN_LINE.subn(lambda _: line, before, count=1)
    if not replaced:
        after = f"{line}\n{before}"
    if _parsed(path, after) != expected:
        raise ConfigurationError(
            f"the token's place in the configuration file {path} cannot be found",
            hint='Write it as token = "…" on a line of its own, above all tables.',
        )
    return after


def _parsed(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(
            f"the configuration file {path} is not TOML: {exc}",
            hint="Correct it, or remove it.",
        ) from exc


def _replace(path: Path, text: str) -> None:
    # Made with mode 0600, so that the token is never readable for others, not even at first.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
