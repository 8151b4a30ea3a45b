"""Tokens: what proves to the backend who is calling.

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
# Laptop and host clocks differ by a little; more than this is a fault that preflight reports.
CLOCK_LEEWAY: Final = timedelta(seconds=30)
# A worker's token must outlive every pause between two deploys; it is good for its node alone.
WORKER_TOKEN_LIFETIME: Final = timedelta(days=400)
# What a text that is no token, or a token that is not ours, makes of its reading.
_MALFORMED: Final = (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, OSError)


class Role(StrEnum):
    """What a token's bearer may do."""

    OPERATOR = "operator"
    WORKER = "worker"
    READER = "reader"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, as a verified token says.

    Attributes:
        subject: The operator's name, or the node of a worker.
        role: What they may do.
        node: The host name a worker's URL must have; None for other roles.
        token_id: The ``jti`` claim, which names the token without giving it away.
        expires_at: When the token stops being valid, in UTC.
    """

    subject: str
    role: Role
    node: str | None
    token_id: str
    expires_at: datetime


def mint(
    secret: Secret,
    *,
    subject: str,
    role: Role,
    lifetime: timedelta,
    now: datetime,
    node: str | None = None,
    token_id: str | None = None,
) -> Secret:
    """Signs a new token.

    Args:
        secret: ``JWT_SECRET``, at least 32 characters.
        subject: Who the token is for.
        role: What its bearer may do.
        lifetime: How long it is valid.
        now: The present time, aware.
        node: The host name of a worker's node; required for workers and only for them.
        token_id: Its ``jti`` claim; by default a new random one.

    Raises:
        SecretsError: The signing secret is too short.
        ValueError: ``node`` and ``role`` do not fit each other.
    """
    if len(secret.reveal()) < MINIMUM_SECRET_LENGTH:
        raise SecretsError(
            f"JWT_SECRET is shorter than {MINIMUM_SECRET_LENGTH} characters",
            hint="Put a longer random value into the vault's field jwt_secret.",
        )
    if (role is Role.WORKER) != (node is not None):
        raise ValueError("a worker's token names its node, and no other token does")
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


def mint_for_node(secret: Secret, node: str, *, now: datetime) -> Secret:
    """Signs the token of a node's workers: the same one for all of a calendar quarter.

    A token that differed from one deploy to the next would change the environment of every worker,
    and with it make each deploy restart workers that nothing else has changed for. So the time of
    issue is the quarter's first moment, and the token's id follows from node and quarter. It is
    valid for `WORKER_TOKEN_LIFETIME` from then: at least 308 days from now.

    Raises:
        SecretsError: The signing secret is too short.
    """
    today = now.astimezone(UTC)
    quarter = datetime(today.year, (today.month - 1) // 3 * 3 + 1, 1, tzinfo=UTC)
    return mint(
        secret,
        subject=node,
        role=Role.WORKER,
        lifetime=WORKER_TOKEN_LIFETIME,
        now=quarter,
        node=node,
        token_id=uuid.uuid5(uuid.NAMESPACE_DNS, f"{quarter:%Y-%m}.{node}").hex,
    )


def verify(token: str, secret: Secret) -> Identity:
    """Checks signature, issuer, expiry and shape of a token.

    Raises:
        SecretsError: It is missing something, expired, or not signed by this backend's secret.
    """
    try:
        return _identity(
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
            "the token has expired", hint="Make a new one with `ktrdr token create`."
        ) from exc
    except jwt.ImmatureSignatureError as exc:
        raise SecretsError(
            "the token was made in the future",
            hint="Set the clocks of this machine and of the one that made the token.",
        ) from exc
    except _MALFORMED as exc:
        raise SecretsError(
            "the token is not one of this backend's",
            hint="Make one with `ktrdr token create` from the vault this backend uses.",
        ) from exc


@dataclass(frozen=True, slots=True)
class Keyring:
    """The secrets that tokens may be signed with.

    Attributes:
        current: What new tokens are signed with.
        previous: What they were signed with before a rotation, or None.
        previous_until: When ``previous`` stops being good; aware.
    """

    current: Secret
    previous: Secret | None = None
    previous_until: datetime | None = None

    def verify(self, token: str, now: datetime) -> Identity:
        """Checks a token against the current secret, then against the previous one while it lasts.

        Raises:
            SecretsError: No secret that is good now has signed it; the reason is the current one's.
        """
        try:
            return verify(token, self.current)
        except SecretsError:
            if self.previous is None or self.previous_until is None or now >= self.previous_until:
                raise
            with suppress(SecretsError):
                return verify(token, self.previous)
            raise


def read_unverified(token: Secret) -> Identity:
    """What a token says of itself; whether it is genuine, only the backend can tell.

    Raises:
        SecretsError: It is not a token of KTRDR.
    """
    try:
        return _identity(jwt.decode(token.reveal(), options={"verify_signature": False}))
    except _MALFORMED as exc:
        raise SecretsError(
            "this is not a token of KTRDR", hint="Make one with `ktrdr token create`."
        ) from exc


def _identity(claims: dict[str, Any]) -> Identity:
    role = Role(claims["role"])
    return Identity(
        subject=str(claims["sub"]),
        role=role,
        node=str(claims["node"]) if role is Role.WORKER else None,
        token_id=str(claims["jti"]),
        expires_at=datetime.fromtimestamp(claims["exp"], tz=UTC),
    )
