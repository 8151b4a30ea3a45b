"""`ktrdr token`: tokens for the backend."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from ktrdr.cli.hosts import inventory_option, read_inventory
from ktrdr.cli.render import json_option, write_json, write_line, write_note, write_table
from ktrdr.client.backend import open_backend
from ktrdr.client.configuration import read_token, save_token, token_path
from ktrdr.deployment.homelab.secret_source import make_source
from ktrdr.deployment.homelab.secret_values import require_usable_fields
from ktrdr.errors import SecretsError, UsageError
from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token, decode_unverified

_FIELD: Final = "jwt_secret"
_ROLES: Final = (Role.OPERATOR, Role.READER)
_MAX_DAYS: Final = 3650


@click.group()
def token() -> None:
    """Create, show and revoke tokens."""


@token.command()
@click.option(
    "--role",
    type=click.Choice([role.value for role in _ROLES]),
    default=Role.OPERATOR.value,
    show_default=True,
    help="Role: an operator has full access, a reader has read-only access.",
)
@click.option("--name", metavar="NAME", help="Name of the token's user.  [default: your user name]")
@click.option(
    "--days",
    type=click.IntRange(1, _MAX_DAYS),
    default=90,
    show_default=True,
    help="Validity in days.",
)
@click.option(
    "--save", is_flag=True, help="Save the token for later ktrdr commands instead of printing it."
)
@inventory_option
@click.option(
    "--jwt-secret-env",
    metavar="VARIABLE",
    help="Read JWT_SECRET from this environment variable instead of the secret source.",
)
def create(
    role: str,
    name: str | None,
    days: int,
    save: bool,
    inventory: Path | None,
    jwt_secret_env: str | None,
) -> None:
    """Create a token and print it.

    The token is signed with JWT_SECRET from the secret source. Treat it as a password.
    """
    created = create_token(
        _signing_secret(jwt_secret_env, inventory),
        subject=name or _user_name(),
        role=Role(role),
        lifetime=timedelta(days=days),
        now=datetime.now(tz=UTC),
    )
    identity = decode_unverified(created)
    if save:
        path = token_path(os.environ)
        save_token(path, created)
        write_note(f"saved in {path}")
    else:
        write_line(created.reveal())
    write_note(
        f"{identity.role} token for {identity.subject}, valid until {identity.expires_at:%Y-%m-%d};"
        " treat it as a password"
    )


@token.command()
def show() -> None:
    """Show the current token's name, role and expiry."""
    identity = decode_unverified(read_token(os.environ))
    remaining = identity.expires_at - datetime.now(tz=UTC)
    state = f"{remaining.days} days left" if remaining > timedelta(0) else "EXPIRED"
    for label, value in (
        ("name", identity.subject),
        ("role", identity.role.value),
        ("node", identity.node),
        ("id", identity.token_id),
        ("expires", f"{identity.expires_at:%Y-%m-%d %H:%M} UTC ({state})"),
    ):
        if value is not None:
            write_line(f"{label:8} {value}")


@token.command()
@click.argument("token_id", required=False)
@click.option("--this", is_flag=True, help="Revoke the token in use.")
@click.option(
    "--days",
    type=click.IntRange(1, _MAX_DAYS),
    default=_MAX_DAYS,
    show_default=True,
    help="Days to keep the revocation, at least until the token expires.",
)
def revoke(token_id: str | None, this: bool, days: int) -> None:
    """Revoke a token.

    `ktrdr token show` prints the id of the token in use. `ktrdr audit --json` has the ids of tokens
    that changed something. A new jwt_secret revokes all tokens.
    """
    if this == (token_id is not None):
        raise UsageError(
            "exactly one token is required",
            hint="Give a token's id, or --this for the token in use.",
        )
    expires_at = datetime.now(tz=UTC) + timedelta(days=days)
    if this:
        identity = decode_unverified(read_token(os.environ))
        token_id, expires_at = identity.token_id, identity.expires_at
    with open_backend() as api:
        api.revoke_token(str(token_id), expires_at)
    write_note(f"token {token_id} is revoked")


@token.command()
@json_option
def revoked(as_json: bool) -> None:
    """List the revoked tokens that have not expired."""
    with open_backend() as api:
        tokens = api.list_revoked_tokens()
    if as_json:
        write_json(tokens)
        return
    write_table(
        ("token", "revoked (UTC)", "by", "would expire"),
        [
            (
                revocation.token_id,
                f"{revocation.revoked_at:%Y-%m-%d %H:%M}",
                revocation.revoked_by,
                f"{revocation.expires_at:%Y-%m-%d}",
            )
            for revocation in tokens
        ],
        empty="No token is revoked.",
    )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:
        raise UsageError(
            "the user of this process has no name", hint="Name the token's user with --name."
        ) from exc


def _signing_secret(variable: str | None, inventory: Path | None) -> Secret:
    if not variable:
        fields = make_source(read_inventory(inventory).secrets).fetch()
        require_usable_fields(fields, [_FIELD])
        return fields[_FIELD]
    value = os.environ.get(variable)
    if not value:
        raise SecretsError(
            f"the variable {variable} is not set",
            hint=f"Export {variable}, or omit --jwt-secret-env to use the secret source.",
        )
    return Secret(value)
