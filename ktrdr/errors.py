"""Errors of KTRDR: one tree with exit codes and HTTP statuses.

::

    KtrdrError                    exit 1    HTTP 500
    ├── UsageError                exit 2    HTTP 422   the request names something unknown
    │   ├── InvalidParameters     exit 2    HTTP 422   an operation's parameters do not fit its type
    │   ├── TooLarge              exit 2    HTTP 413   a request exceeds a limit
    │   └── NotFound              exit 2    HTTP 404
    ├── ConfigurationError        exit 3    HTTP 500   inventory, settings or checkout
    ├── SecretsError              exit 4    HTTP 401   vault, field or token
    │   ├── Forbidden             exit 4    HTTP 403   a valid token that lacks the right
    │   └── TooManyAttempts       exit 4    HTTP 429   too many bad tokens from one address
    ├── HostUnreachable           exit 5    HTTP 502   name, network, SSH or the backend's HTTP
    │   └── HostSkipped           exit 11   HTTP 502   off, and left out of a deploy to others
    ├── HostNotReady              exit 6    HTTP 503   reachable, but cannot run the stack
    │   ├── DatabaseUnavailable   exit 6    HTTP 503
    │   └── NotStarted            exit 6    HTTP 503   unchanged, because another host failed
    ├── RolledBack                exit 6    HTTP 503   back at what ran before, because of another
    ├── ImageError                exit 7    HTTP 502   registry or tag
    ├── DeploymentFailed          exit 8    HTTP 500   applied, but did not become healthy
    │   └── OperationFailed       exit 8    HTTP 500   an operation ended in its own error
    ├── Locked                    exit 9    HTTP 409   another process or user has it
    │   └── Conflict              exit 9    HTTP 409   the state of the thing does not allow this
    └── Interrupted               exit 130  HTTP 503   Ctrl-C or SIGTERM

A message is one sentence that names the thing and the reason. A hint is the remedy. Foreign
exceptions are translated once, at the edge where they arise, with ``from``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, NamedTuple


class KtrdrError(Exception):
    """Base class of all foreseeable errors.

    Attributes:
        message: Sentence that names the thing and the reason; never holds a secret.
        hint: Remedy, or None where there is none.
        exit_code: Exit code of a command that ends with this error.
        http_status: HTTP status of the API's answer.
        kind: Stable slug, the last part of the problem document's ``type``.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KtrdrError):
    """The request names something that does not exist or makes no sense."""

    exit_code = 2
    http_status = 422
    kind = "usage"


class InvalidParameters(UsageError):
    """An operation's parameters do not fit its type."""

    kind = "invalid-parameters"


class TooLarge(UsageError):
    """A request exceeds a limit."""

    http_status = 413
    kind = "too-large"


class NotFound(UsageError):
    """The named thing does not exist."""

    http_status = 404
    kind = "not-found"


class ConfigurationError(KtrdrError):
    """The inventory, a setting or the checkout cannot be used as it is."""

    exit_code = 3
    kind = "configuration"


class SecretsError(KtrdrError):
    """A secret cannot be read, or a token is missing, expired or forged."""

    exit_code = 4
    http_status = 401
    kind = "unauthenticated"


class Forbidden(SecretsError):
    """The token is valid, but its role does not allow this."""

    http_status = 403
    kind = "forbidden"


class TooManyAttempts(SecretsError):
    """An address has recently sent too many bad tokens.

    Attributes:
        retry_after_s: Time until the address may try again (s).
    """

    http_status = 429
    kind = "too-many-attempts"

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after_s: float = 60.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class HostUnreachable(KtrdrError):
    """A host cannot be reached by name, network, SSH or HTTP.

    Attributes:
        is_off: Whether no connection could be opened, as to a host that is switched off.
    """

    exit_code = 5
    http_status = 502
    kind = "unreachable"
    is_off = False


class HostSkipped(HostUnreachable):
    """A host is off, and the deploy went on without it."""

    exit_code = 11
    kind = "skipped"


class HostNotReady(KtrdrError):
    """A host answers but cannot run the stack."""

    exit_code = 6
    http_status = 503
    kind = "not-ready"


class DatabaseUnavailable(HostNotReady):
    """The database does not answer."""

    kind = "database-unavailable"


class NotStarted(HostNotReady):
    """The deploy to a host was not started, because another host failed."""

    kind = "not-begun"


class RolledBack(KtrdrError):
    """A host that was deployed was rolled back, because another host failed."""

    exit_code = 6
    http_status = 503
    kind = "rolled-back"


class ImageError(KtrdrError):
    """The registry refuses, is down, or has no such tag."""

    exit_code = 7
    http_status = 502
    kind = "image"


class DeploymentFailed(KtrdrError):
    """The stack was applied and did not become healthy."""

    exit_code = 8
    kind = "failed"


class OperationFailed(DeploymentFailed):
    """An operation ended in an error of its own."""

    kind = "operation-failed"


class Locked(KtrdrError):
    """Another process or user has what this needs."""

    exit_code = 9
    http_status = 409
    kind = "locked"


class Conflict(Locked):
    """The state of the thing does not allow this."""

    kind = "conflict"


class Interrupted(KtrdrError):
    """The user or the system asked the program to stop."""

    exit_code = 130
    http_status = 503
    kind = "interrupted"


class ErrorPattern(NamedTuple):
    """Pattern of a program's message, with our message and remedy."""

    pattern: str
    message: str
    hint: str


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean NEAREST?``, or an empty string if no known name is close."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def last_line(output: str) -> str:
    """Return the last line of a program's output, where programs say why they failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no error message"
