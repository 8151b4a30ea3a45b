"""Secrets in an encrypted file, opened by the program that it was encrypted with: age or SOPS.

What these programs write to standard error is never passed on: `age` quotes the first line of a
file that somebody forgot to encrypt. Their words are looked at, and ours are said.
"""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from ktrdr.deployment.secrets import program
from ktrdr.deployment.secrets.plaintext import fields_in
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

# Where SOPS looks for keys of age; `age` by itself has no place of its own.
KEY: Final = "SOPS_AGE_KEY"
KEY_FILE: Final = "SOPS_AGE_KEY_FILE"


class _Refusal(NamedTuple):
    """One way in which a program says no: its words, ours, and what to do."""

    pattern: str
    message: str
    hint: str


_AGE_REFUSALS: Final = (
    _Refusal(
        r"no identity matched",
        "the private key in {identity} does not open {file}",
        "Name the right one as secrets.identity, or have the file encrypted for this one too: "
        "`age-keygen -y` shows its public key.",
    ),
    _Refusal(
        r"unexpected intro|failed to read intro",
        "{file} is not encrypted with age",
        "Encrypt it with `age --encrypt --recipient KEY`; what was kept unencrypted should change.",
    ),
    _Refusal(
        r"could not read passphrase|/dev/tty",
        "{identity} is locked by a passphrase, and nobody is there to be asked for it",
        "Run the command in a terminal, or use a key without a passphrase.",
    ),
    _Refusal(
        r"passphrase",
        "{file} is encrypted with a passphrase, not for a key",
        "Encrypt it for a key: `age --encrypt --recipient KEY`.",
    ),
    _Refusal(
        r"unknown identity type|no secret keys found|malformed secret key|failed to read \"",
        "{identity} holds no private key of age",
        "Name the file that age-keygen wrote as secrets.identity.",
    ),
    _Refusal(
        r"read header|parsing age header|parse header|authenticate payload|unexpected EOF|MAC",
        "{file} is damaged",
        "Take it from where it is kept, or encrypt it anew.",
    ),
)
_SOPS_REFUSALS: Final = (
    _Refusal(
        r"metadata not found",
        "{file} is not encrypted with SOPS",
        "Encrypt it with `sops encrypt --in-place`; what was kept unencrypted should change.",
    ),
    _Refusal(
        r"unmarshalling",
        "SOPS cannot read {file}",
        "Its name must end in what it is, .yaml or .json, and SOPS must have encrypted it.",
    ),
    _Refusal(
        r"Failed to get the data key",
        "no key that SOPS finds on this machine opens {file}",
        "Name the file with the private key as secrets.identity, or set up what the file is "
        "encrypted for: `sops decrypt` by hand says what it tried.",
    ),
    _Refusal(
        r"decrypting tree|decrypt MAC|MAC mismatch|authentication failed",
        "{file} is damaged, or was changed by something else than SOPS",
        "Take it from where it is kept, and change it with `sops edit`.",
    ),
)


class _Call(NamedTuple):
    """What a program is called with."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    names: Mapping[str, str]
    given: Secret | None = None


class _EncryptedFile(ABC):
    """What both kinds have in common."""

    _program: ClassVar[str]
    _remedy: ClassVar[str]
    _refusals: ClassVar[Sequence[_Refusal]]

    def __init__(
        self,
        file: Path,
        identity: Path | None = None,
        *,
        executable: str | None = None,
        timeout_s: float = program.PATIENCE_S,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Opens nothing yet.

        Args:
            file: The encrypted file.
            identity: The file with the private key of age, where it is named.
            executable: The path of the program; by default what PATH has under its name.
            timeout_s: Seconds that decrypting may take, a person's answer to a prompt included.
            environment: What the program is given as its environment.
        """
        self._file = file
        self._identity = identity
        self._executable = executable or self._program
        self._timeout_s = timeout_s
        self._environment = environment

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: The program, the file or the key is missing, they do not fit one another,
                or what is in the file is not to be understood.
        """
        _must_be_readable(self._file, "the secrets' file")
        call = self._call()
        answer = program.run(
            (self._executable, *call.arguments),
            environment=call.environment,
            timeout_s=self._timeout_s,
            remedy=self._remedy,
            given=call.given,
        )
        return fields_in(self._printed(answer, call.names), str(self._file))

    @abstractmethod
    def _call(self) -> _Call:
        """How the program is called."""

    def _printed(self, answer: program.Answer | None, names: Mapping[str, str]) -> Secret:
        if answer is None:
            raise SecretsError(
                f"{self._program} did not answer within {self._timeout_s:g} s",
                hint="Check whether it waits for a passphrase or a touch.",
            )
        if answer.code == 0:
            return answer.printed
        for refusal in self._refusals:
            if re.search(refusal.pattern, answer.complaint.reveal()):
                raise SecretsError(
                    refusal.message.format(**names), hint=refusal.hint.format(**names)
                )
        raise SecretsError(
            f"{self._program} could not decrypt {self._file} (exit code {answer.code})",
            hint=f"Try {self._program} by hand; its words may quote the file, so they stay unsaid.",
        )


class AgeFile(_EncryptedFile):
    """A file encrypted with age, which the program `age` decrypts.

    The private key is in the file named, or in the variable ``SOPS_AGE_KEY``, or in the file that
    ``SOPS_AGE_KEY_FILE`` names, or in SOPS's own place for it; the first of these counts. Plugins
    of `age` work: a person may be asked to touch a token.
    """

    _program = "age"
    _remedy = "Install age: most systems have a package of that name."
    _refusals = _AGE_REFUSALS

    def _call(self) -> _Call:
        key = None if self._identity else self._environment.get(KEY)
        identity = "-" if key else str(self._key_file())
        return _Call(
            ("--decrypt", "--identity", identity, str(self._file)),
            {name: value for name, value in self._environment.items() if name != KEY},
            {"file": str(self._file), "identity": KEY if key else identity},
            Secret(key) if key else None,
        )

    def _key_file(self) -> Path:
        named = self._identity or self._environment.get(KEY_FILE)
        path = Path(named) if named else default_key_file(self._environment)
        if not named and not path.exists():
            raise SecretsError(
                f"there is no private key to open {self._file} with",
                hint=f"Name its file as secrets.identity or in {KEY_FILE}, or put it into {path}.",
            )
        _must_be_readable(path, "the private key's file")
        return path


class SopsFile(_EncryptedFile):
    """A file encrypted with SOPS, which the program `sops` decrypts by whatever key it finds.

    Keys of age are looked for where `AgeFile` looks; those of PGP and of the clouds' services work
    as SOPS's own documentation says, because the environment is passed on.
    """

    _program = "sops"
    _remedy = "Install SOPS, version 3.9 or newer, or choose another secrets.source."
    _refusals = _SOPS_REFUSALS

    def _call(self) -> _Call:
        environment = dict(self._environment)
        if self._identity:
            _must_be_readable(self._identity, "the private key's file")
            environment[KEY_FILE] = str(self._identity)
        return _Call(
            ("decrypt", "--output-type", "json", str(self._file)),
            environment,
            {"file": str(self._file)},
        )


def default_key_file(environment: Mapping[str, str]) -> Path:
    """Where SOPS keeps keys of age on this system."""
    home = Path(environment.get("HOME", "/"))
    native = "Library/Application Support" if sys.platform == "darwin" else ".config"
    base = Path(environment.get("XDG_CONFIG_HOME") or home / native)
    return base / "sops/age/keys.txt"


def _must_be_readable(path: Path, what: str) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as exc:
        reason = (
            "does not exist"
            if isinstance(exc, FileNotFoundError)
            else (f"cannot be read: {exc.strerror}")
        )
        raise SecretsError(
            f"{what} {path} {reason}",
            hint="Correct secrets.file or secrets.identity in the inventory, or the file's rights.",
        ) from exc
