"""Secrets in a file that age or SOPS has encrypted.

The standard error of these programs is never shown: `age` quotes the first line of a file that is
not encrypted. Known errors become messages of our own.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.deployment.secrets.plaintext import parse_fields
from ktrdr.deployment.secrets.program import ProgramSource
from ktrdr.errors import ErrorPattern, SecretsError
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
        r"passphrase|/dev/tty",
        "{file} or {identity} needs a passphrase, which cannot be entered without a terminal",
        "Encrypt the file for a key (`age --encrypt --recipient KEY`), and use a key without a "
        "passphrase, or run the command in a terminal.",
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
        r"metadata not found|unmarshalling",
        "{file} is not encrypted with SOPS",
        "Give it the extension of its format, .yaml or .json, encrypt it with `sops encrypt "
        "--in-place`, and change the values, which were not protected.",
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


_ANY_OTHER_ERROR: Final = ErrorPattern(
    "",
    "{program} could not decrypt {file}",
    "Run {program} by hand to see its own message, which may quote the file.",
)


@dataclass(frozen=True)
class _EncryptedFile(ProgramSource, ABC):
    """Source that decrypts a file with a program.

    Attributes:
        file: The encrypted file.
        identity: The file with the private key of age, if the inventory names one.
    """

    file: Path
    identity: Path | None = None

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: The program, the file or the key is missing, the key does not open the
                file, or the content of the file is invalid.
        """
        _require_readable(self.file, "the secrets' file")
        return parse_fields(self._decrypt(), f"the content of {self.file}", self.fields)

    @abstractmethod
    def _decrypt(self) -> Secret: ...


class AgeFile(_EncryptedFile):
    """File encrypted with age, which the program `age` decrypts.

    The private key is in the named file, or in the variable ``SOPS_AGE_KEY``, or in the file that
    ``SOPS_AGE_KEY_FILE`` names, or in the default file of SOPS. The first of these counts. Plugins
    of `age` work: they may ask a person to touch a token.
    """

    _install_hint = "Install age: most systems have a package of that name."
    _errors = (*_AGE_ERRORS, _ANY_OTHER_ERROR)

    def _decrypt(self) -> Secret:
        key = None if self.identity else self.environment.get(KEY)
        identity = KEY if key else str(self._key_file())
        return self._run(
            *("age", "--decrypt", "--identity", "-" if key else identity, str(self.file)),
            names={"program": "age", "file": str(self.file), "identity": identity},
            environment={name: value for name, value in self.environment.items() if name != KEY},
            stdin=Secret(key) if key else None,
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

    _install_hint = "Install SOPS, version 3.9 or newer, or choose another secrets.source."
    _errors = (*_SOPS_ERRORS, _ANY_OTHER_ERROR)

    def _decrypt(self) -> Secret:
        environment = dict(self.environment)
        if self.identity:
            _require_readable(self.identity, "the private key's file")
            environment[KEY_FILE] = str(self.identity)
        return self._run(
            *("sops", "decrypt", "--output-type", "json", str(self.file)),
            names={"program": "SOPS", "file": str(self.file)},
            environment=environment,
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
