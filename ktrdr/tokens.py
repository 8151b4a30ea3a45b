"""Tokens that identify callers to the backend.

A token is a JWT (RFC 7519) signed with HMAC-SHA-256 under ``JWT_SECRET``. Roles:

- ``operator`` may do everything;
- ``worker`` may register, and only under a URL whose host is the token's ``node``; it may read;
- ``reader`` may read.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import jwt

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

ISSUER: Final = "ktrdr"
ALGORITHM: Final = "HS256"
MINIMUM_SECRET_LENGTH: Final = 32
# Clocks differ a little. The check before a deploy reports a larger difference.
CLOCK_LEEWAY: Final = timedelta(seconds=30)
# A worker's token must outlast the time between two deploys. It is valid for its node only.
WORKER_TOKEN_LIFETIME: Final = timedelta(days=400)
# Errors of decoding a text that is not a token, or a token of another issuer.
_DECODE_ERRORS: Final = (
    jwt.InvalidTokenError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    OSError,
)


class Role(StrEnum):
    """Permissions of a token."""

    OPERATOR = "operator"
    WORKER = "worker"
    READER = "reader"


@dataclass(frozen=True, slots=True)
class Identity:
    """Caller that a token identifies.

    Attributes:
        subject: Operator's name, or a worker's node.
        role: Permissions.
        node: Host name that a worker's URL must have; None for other roles.
        token_id: ``jti`` claim, which identifies the token without revealing it.
        expires_at: End of the token's validity, in UTC.
    """

    subject: str
    role: Role
    node: str | None
    token_id: str
    expires_at: datetime


def create_token(
    secret: Secret,
    *,
    subject: str,
    role: Role,
    lifetime: timedelta,
    now: datetime,
    node: str | None = None,
    token_id: str | None = None,
) -> Secret:
    """Create and sign a token.

    Args:
        secret: ``JWT_SECRET``, at least 32 characters.
        subject: Operator's name, or a worker's node.
        role: Permissions.
        lifetime: Time until it expires.
        now: Current time, aware.
        node: Host name of a worker's node; required for workers and only for them.
        token_id: ``jti`` claim; by default a new random one.

    Raises:
        SecretsError: The signing secret is too short.
        ValueError: A worker's token has no node, or another token has one.
    """
    if len(secret.reveal()) < MINIMUM_SECRET_LENGTH:
        raise SecretsError(
            f"JWT_SECRET is shorter than {MINIMUM_SECRET_LENGTH} characters",
            hint="Store a longer random value in the vault's field jwt_secret.",
        )
    if (role is Role.WORKER) != (node is not None):
        raise ValueError("a worker's token needs a node, and no other token has one")
    claims: dict[str, object] = {
        "iss": ISSUER,
        "sub": subject,
        "role": role.value,
        "jti": token_id or uuid.uuid4().hex,
        "iat": now,
        "exp": now + lifetime,
    }
    if node is not None:
        claims["node"] = node
    return Secret(jwt.encode(claims, secret.reveal(), algorithm=ALGORITHM))


def create_node_token(secret: Secret, node: str, *, now: datetime) -> Secret:
    """Create the token of a node's workers, which is the same during a calendar quarter.

    A new token in every deploy would change the environment of every worker, so each deploy would
    restart workers without need. Therefore the time of issue is the start of the quarter, and the
    token's id follows from node and quarter. The token is valid for `WORKER_TOKEN_LIFETIME` from
    then: at least 308 days from now.

    Raises:
        SecretsError: The signing secret is too short.
    """
    today = now.astimezone(UTC)
    quarter = datetime(today.year, (today.month - 1) // 3 * 3 + 1, 1, tzinfo=UTC)
    return create_token(
        secret,
        subject=node,
        role=Role.WORKER,
        lifetime=WORKER_TOKEN_LIFETIME,
        now=quarter,
        node=node,
        token_id=uuid.uuid5(uuid.NAMESPACE_DNS, f"{quarter:%Y-%m}.{node}").hex,
    )


def verify_token(token: str, secret: Secret) -> Identity:
    """Verify signature, issuer, expiry and claims of a token.

    Raises:
        SecretsError: The token is malformed, expired, or not signed with the secret.
    """
    try:
        return _to_identity(
            jwt.decode(
                token,
                secret.reveal(),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                leeway=CLOCK_LEEWAY,
                options={"require": ["iss", "sub", "exp", "iat", "jti"]},
            )
        )
    except jwt.ExpiredSignatureError as exc:
        raise SecretsError(
            "the token has expired", hint="Create a new one with `ktrdr token create --save`."
        ) from exc
    except jwt.ImmatureSignatureError as exc:
        raise SecretsError(
            "the token was issued in the future",
            hint="Correct the clocks of this machine and of the one that created the token.",
        ) from exc
    except _DECODE_ERRORS as exc:
        raise SecretsError(
            "the token was not issued for this backend",
            hint="Create one with `ktrdr token create --save` and this backend's vault.",
        ) from exc


@dataclass(frozen=True, slots=True)
class Keyring:
    """Secrets that verify tokens.

    Attributes:
        current: Secret that signs new tokens.
        previous: Secret before a rotation, or None.
        previous_until: End of the previous secret's validity; aware.
    """

    current: Secret
    previous: Secret | None = None
    previous_until: datetime | None = None

    def verify(self, token: str, now: datetime) -> Identity:
        """Verify a token with the current secret, then with the previous one while it is valid.

        Raises:
            SecretsError: No valid secret verifies the token; the reason is the current secret's.
        """
        try:
            return verify_token(token, self.current)
        except SecretsError:
            if self.previous is None or self.previous_until is None or now >= self.previous_until:
                raise
            with suppress(SecretsError):
                return verify_token(token, self.previous)
            raise


def decode_unverified(token: Secret) -> Identity:
    """Return the claims of a token without verifying its signature.

    Raises:
        SecretsError: The text is not a token of KTRDR.
    """
    try:
        return _to_identity(jwt.decode(token.reveal(), options={"verify_signature": False}))
    except _DECODE_ERRORS as exc:
        raise SecretsError(
            "this is not a KTRDR token", hint="Create one with `ktrdr token create --save`."
        ) from exc


def _to_identity(claims: dict[str, Any]) -> Identity:
    role = Role(claims["role"])
    return Identity(
        subject=str(claims["sub"]),
        role=role,
        # A URL has its host in lower case.
        node=str(claims["node"]).lower() if role is Role.WORKER else None,
        token_id=str(claims["jti"]),
        expires_at=datetime.fromtimestamp(claims["exp"], tz=UTC),
    )
