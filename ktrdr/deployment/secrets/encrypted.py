"""Secrets in a file that age or SOPS has encrypted.

The standard error of these programs is never shown: `age` quotes the first line of a file that is
not encrypted. Known errors become messages of our own.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from ktrdr.deployment.secrets.plaintext import parse_fields
from ktrdr.deployment.secrets.program import (
    PROMPT_TIMEOUT_S,
    ErrorPattern,
    ProgramResult,
    match_error,
    read_output,
)
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

# SOPS reads age keys from these variables. `age` has no variables of its own.
KEY: Final = "SOPS_AGE_KEY"
KEY_FILE: Final = "SOPS_AGE_KEY_FILE"

_AGE_ERRORS: Final = (
    ErrorPattern(
        r"no identity matched",
        "the private key in {identity} cannot decrypt {file}",
        "Set secrets.identity to the right key's file, or encrypt the file for this key, too: "
        "`age-keygen -y` shows its public key.",
    ),
    ErrorPattern(
        r"unexpected intro|failed to read intro",
        "{file} is not encrypted with age",
        "Encrypt it with `age --encrypt --recipient KEY`, and change the values, which were not "
        "protected.",
    ),
    ErrorPattern(
        r"could not read passphrase|/dev/tty",
        "{identity} is protected by a passphrase, which cannot be entered without a terminal",
        "Run the command in a terminal, or use a key without a passphrase.",
    ),
    ErrorPattern(
        r"passphrase",
        "{file} is encrypted with a passphrase, not for a key",
        "Encrypt it for a key: `age --encrypt --recipient KEY`.",
    ),
    ErrorPattern(
        r"unknown identity type|no secret keys found|malformed secret key|failed to read \"",
        "{identity} contains no private key of age",
        "Set secrets.identity to the file that age-keygen wrote.",
    ),
    ErrorPattern(
        r"read header|parsing age header|parse header|authenticate payload|unexpected EOF|MAC",
        "{file} is damaged",
        "Restore it from a backup, or encrypt it again.",
    ),
)
_SOPS_ERRORS: Final = (
    ErrorPattern(
        r"metadata not found",
        "{file} is not encrypted with SOPS",
        "Encrypt it with `sops encrypt --in-place`, and change the values, which were not "
        "protected.",
    ),
    ErrorPattern(
        r"unmarshalling",
        "SOPS cannot read {file}",
        "Give it the extension of its format, .yaml or .json, and encrypt it with SOPS.",
    ),
    ErrorPattern(
        r"Failed to get the data key",
        "SOPS found no key on this machine that decrypts {file}",
        "Set secrets.identity to the file with the private key, or provide another key that the "
        "file is encrypted for. `sops decrypt` shows which keys it tried.",
    ),
    ErrorPattern(
        r"decrypting tree|decrypt MAC|MAC mismatch|authentication failed",
        "{file} is damaged, or was changed without SOPS",
        "Restore it from a backup, and edit it with `sops edit`.",
    ),
)


class _Command(NamedTuple):
    """Command that decrypts the file, and the names that error messages use."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    names: Mapping[str, str]
    stdin: Secret | None = None


@dataclass(frozen=True)
class _EncryptedFile(ABC):
    """Source that decrypts a file with a program.

    Attributes:
        file: The encrypted file.
        identity: The file with the private key of age, if the inventory names one.
        fields: Names that must be unique and text if they occur in the file.
        executable: Path of the program; by default it is searched in PATH.
        timeout_s: Maximum duration of decryption, including a person's answer to a prompt (s).
        environment: Environment of the program.
    """

    _program: ClassVar[str]
    _install_hint: ClassVar[str]
    _errors: ClassVar[Sequence[ErrorPattern]]

    file: Path
    identity: Path | None = None
    fields: Collection[str] = ()
    executable: str | None = None
    timeout_s: float = PROMPT_TIMEOUT_S
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: The program, the file or the key is missing, the key does not open the
                file, or the content of the file is invalid.
        """
        _require_readable(self.file, "the secrets' file")
        command = self._build_command()
        plaintext = read_output(
            (self.executable or self._program, *command.arguments),
            environment=command.environment,
            timeout_s=self.timeout_s,
            install_hint=self._install_hint,
            explain=lambda result: self._decryption_error(result, command.names),
            stdin=command.stdin,
        )
        return parse_fields(plaintext, f"the content of {self.file}", self.fields)

    @abstractmethod
    def _build_command(self) -> _Command: ...

    def _decryption_error(self, result: ProgramResult, names: Mapping[str, str]) -> SecretsError:
        return match_error(self._errors, result.stderr, names) or SecretsError(
            f"{self._program} could not decrypt {self.file} (exit code {result.exit_code})",
            hint=f"Run {self._program} by hand to see its own message, which may quote the file.",
        )


class AgeFile(_EncryptedFile):
    """File encrypted with age, which the program `age` decrypts.

    The private key is in the named file, or in the variable ``SOPS_AGE_KEY``, or in the file that
    ``SOPS_AGE_KEY_FILE`` names, or in the default file of SOPS. The first of these counts. Plugins
    of `age` work: they may ask a person to touch a token.
    """

    _program = "age"
    _install_hint = "Install age: most systems have a package of that name."
    _errors = _AGE_ERRORS

    def _build_command(self) -> _Command:
        key = None if self.identity else self.environment.get(KEY)
        identity = "-" if key else str(self._key_file())
        return _Command(
            ("--decrypt", "--identity", identity, str(self.file)),
            {name: value for name, value in self.environment.items() if name != KEY},
            {"file": str(self.file), "identity": KEY if key else identity},
            Secret(key) if key else None,
        )

    def _key_file(self) -> Path:
        named = self.identity or self.environment.get(KEY_FILE)
        path = Path(named) if named else default_key_file(self.environment)
        if not named and not path.exists():
            raise SecretsError(
                f"no private key was found to decrypt {self.file}",
                hint=f"Set secrets.identity or {KEY_FILE} to the key's file, or create {path}.",
            )
        _require_readable(path, "the private key's file")
        return path


class SopsFile(_EncryptedFile):
    """File encrypted with SOPS, which the program `sops` decrypts with the first key it finds.

    Age keys are searched for as by `AgeFile`. Keys of PGP and of cloud services work as the
    documentation of SOPS says, because the program gets the environment.
    """

    _program = "sops"
    _install_hint = "Install SOPS, version 3.9 or newer, or choose another secrets.source."
    _errors = _SOPS_ERRORS

    def _build_command(self) -> _Command:
        environment = dict(self.environment)
        if self.identity:
            _require_readable(self.identity, "the private key's file")
            environment[KEY_FILE] = str(self.identity)
        return _Command(
            ("decrypt", "--output-type", "json", str(self.file)),
            environment,
            {"file": str(self.file)},
        )


def default_key_file(environment: Mapping[str, str]) -> Path:
    """Return the default file of SOPS for age keys on this system."""
    home = Path(environment.get("HOME", "/"))
    native = "Library/Application Support" if sys.platform == "darwin" else ".config"
    base = Path(environment.get("XDG_CONFIG_HOME") or home / native)
    return base / "sops/age/keys.txt"


def _require_readable(path: Path, description: str) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as exc:
        is_missing = isinstance(exc, FileNotFoundError)
        reason = "does not exist" if is_missing else f"cannot be read: {exc.strerror}"
        raise SecretsError(
            f"{description} {path} {reason}",
            hint="Correct secrets.file or secrets.identity in the inventory, or the file's mode.",
        ) from exc
