"""`ktrdr token`: makes the tokens that the backend asks for, and looks at the one in use."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.hosts import inventory_option, read_inventory
from ktrdr.cli.render import json_option, write_json, write_table
from ktrdr.client.token_file import configuration_file, save_token, token_in_use
from ktrdr.deployment.secrets.choice import source_of
from ktrdr.deployment.secrets.requirements import check
from ktrdr.errors import SecretsError, UsageError
from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token, decode_unverified

_FIELD: Final = "jwt_secret"
_ROLES: Final = (Role.OPERATOR, Role.READER)


@click.group()
def token() -> None:
    """Make, look at and revoke the tokens that the backend asks for."""


@token.command()
@click.option(
    "--role",
    type=click.Choice([role.value for role in _ROLES]),
    default=Role.OPERATOR.value,
    show_default=True,
    help="What the bearer may do: everything, or read.",
)
@click.option("--name", metavar="NAME", help="Who the token is for; by default your user name.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=90,
    show_default=True,
    help="How long it is valid.",
)
@click.option(
    "--save", is_flag=True, help="Put it into the configuration file instead of printing it."
)
@inventory_option
@click.option(
    "--jwt-secret-env",
    metavar="VARIABLE",
    help="Take JWT_SECRET from this variable instead of the vault, for development.",
)
def create(
    role: str,
    name: str | None,
    days: int,
    save: bool,
    inventory: Path | None,
    jwt_secret_env: str | None,
) -> None:
    """Make a token from the vault's JWT_SECRET and print it."""
    secret = _from_variable(jwt_secret_env) if jwt_secret_env else _from_vault(inventory)
    made = create_token(
        secret,
        subject=name or _user_name(),
        role=Role(role),
        lifetime=timedelta(days=days),
        now=datetime.now(tz=UTC),
    )
    identity = decode_unverified(made)
    if save:
        path = configuration_file(os.environ)
        save_token(path, made)
        click.echo(f"saved in {path}", err=True)
    else:
        click.echo(made.reveal())
    until = f"{identity.expires_at:%Y-%m-%d}"
    note = f"{identity.role} token for {identity.subject}, valid until {until}"
    click.echo(f"{note}; treat it as a password", err=True)


@token.command()
def show() -> None:
    """Tell what the token in use says of itself, without showing it."""
    identity = decode_unverified(token_in_use(os.environ))
    left = identity.expires_at - datetime.now(tz=UTC)
    state = f"{left.days} days left" if left > timedelta(0) else "EXPIRED"
    for label, value in (
        ("name", identity.subject),
        ("role", identity.role.value),
        ("node", identity.node),
        ("id", identity.token_id),
        ("expires", f"{identity.expires_at:%Y-%m-%d %H:%M} UTC ({state})"),
    ):
        if value is not None:
            click.echo(f"{label:8} {value}")


@token.command()
@click.argument("token_id", required=False)
@click.option("--this", is_flag=True, help="The token in use.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=3650,
    show_default=True,
    help="How long to remember it; longer than it could be valid.",
)
def revoke(token_id: str | None, this: bool, days: int) -> None:
    """Have the backend believe a token no more; `ktrdr token show` gives its id.

    Whoever holds a token that got into wrong hands can revoke it by its id alone. Rotating
    jwt_secret ends all tokens at once.
    """
    if this == (token_id is not None):
        raise UsageError("name one token", hint="Give its id, or --this for the token in use.")
    until = datetime.now(tz=UTC) + timedelta(days=days)
    if this:
        identity = decode_unverified(token_in_use(os.environ))
        token_id, until = identity.token_id, identity.expires_at
    with backend() as api:
        api.revoke_token(str(token_id), until)
    click.echo(f"token {token_id} is revoked", err=True)


@token.command()
@json_option
def revoked(as_json: bool) -> None:
    """List the tokens that were revoked and have not expired."""
    with backend() as api:
        found = api.revoked_tokens()
    if as_json:
        write_json(found)
        return
    write_table(
        ("token", "revoked (UTC)", "by", "would expire"),
        [
            (
                each.token_id,
                f"{each.revoked_at:%Y-%m-%d %H:%M}",
                each.revoked_by,
                f"{each.expires_at:%Y-%m-%d}",
            )
            for each in found
        ],
        empty="No token is revoked.",
    )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:
        raise UsageError(
            "the user of this process has no name", hint="Say who the token is for with --name."
        ) from exc


def _from_variable(variable: str) -> Secret:
    value = os.environ.get(variable)
    if not value:
        raise SecretsError(
            f"the variable {variable} is not set",
            hint=f"Export {variable}, or leave --jwt-secret-env out to ask the vault.",
        )
    return Secret(value)


def _from_vault(inventory: Path | None) -> Secret:
    fields = source_of(read_inventory(inventory).secrets).fetch()
    check(fields, [_FIELD])
    return fields[_FIELD]
