from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands.token import token
from ktrdr.errors import KtrdrError, SecretsError, UsageError
from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token, verify_token

SECRET = "j" * 40


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inventory, no token yet, and a stand-in for `op`."""
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("secrets:\n  vault: A Vault\n  item: an-item\nworkers: {}\n")
    item = {"fields": [{"type": "CONCEALED", "label": "jwt_secret", "value": SECRET}]}
    op = tmp_path / "op"
    op.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"print({json.dumps(item)!r})\n"
    )
    op.chmod(0o755)
    for name in ("KTRDR_TOKEN", "KTRDR_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("KTRDR_INVENTORY", str(inventory))
    monkeypatch.setenv("KTRDR_CONFIG", str(tmp_path / "cli" / "config.toml"))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(token, arguments, catch_exceptions=False)


def test_a_token_is_signed_with_the_vaults_secret_and_printed_alone(tmp_path: Path) -> None:
    result = call("create", "--name", "ann", "--days", "7")
    identity = verify_token(result.stdout.strip(), Secret(SECRET))
    assert (identity.subject, identity.role) == ("ann", Role.OPERATOR)
    left = identity.expires_at - datetime.now(tz=UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    asked = (tmp_path / "asked").read_text()
    assert asked == "item get an-item --vault A Vault --format json"
    assert "treat it as a password" in result.stderr
    assert SECRET not in result.output


def test_the_secret_comes_from_the_source_that_the_inventory_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KTRDR_INVENTORY_SECRETS_SOURCE", "environment")
    monkeypatch.setenv("KTRDR_SECRET_JWT_SECRET", "e" * 40)
    made = call("create", "--name", "ann").stdout.strip()
    assert verify_token(made, Secret("e" * 40)).subject == "ann"
    assert not (tmp_path / "asked").exists()


def test_a_readers_token_has_the_role_reader() -> None:
    result = call("create", "--role", "reader")
    assert verify_token(result.stdout.strip(), Secret(SECRET)).role is Role.READER


def test_a_workers_token_cannot_be_created_by_hand() -> None:
    assert call("create", "--role", "worker").exit_code == 2


def test_a_saved_token_is_used_and_not_printed(tmp_path: Path) -> None:
    result = call("create", "--save", "--name", "ann")
    assert result.stdout == ""
    saved = tmp_path / "cli" / "config.token"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert f"saved in {saved}" in result.stderr
    shown = call("show").stdout
    assert "ann" in shown
    assert "89 days left" in shown
    assert saved.read_text().strip() not in shown + result.output


def test_a_token_that_an_earlier_release_saved_is_used_and_not_printed(tmp_path: Path) -> None:
    old = call("create", "--name", "ann").stdout.strip()
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "config.toml").write_text(f'token = "{old}"\n')
    shown = call("show")
    assert "ann" in shown.stdout
    assert old not in shown.output


def test_a_secret_from_the_environment_needs_no_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEV_SECRET", "d" * 32)
    result = call("create", "--jwt-secret-env", "DEV_SECRET")
    verify_token(result.stdout.strip(), Secret("d" * 32))
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(("value", "problem"), [("", "is not set"), ("short", "shorter than 32")])
def test_an_unusable_secret_from_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, problem: str
) -> None:
    monkeypatch.setenv("DEV_SECRET", value)
    with pytest.raises(SecretsError, match=problem):
        call("create", "--jwt-secret-env", "DEV_SECRET")


def test_an_expired_token_is_shown_as_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = datetime.now(tz=UTC) - timedelta(days=9)
    old = create_token(
        Secret(SECRET), subject="ann", role=Role.READER, lifetime=timedelta(days=1), now=long_ago
    )
    monkeypatch.setenv("KTRDR_TOKEN", old.reveal())
    assert "EXPIRED" in call("show").stdout


def test_a_user_without_a_name_must_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(UsageError, match="has no name"):
        call("create")


@pytest.mark.parametrize("text", ["", "not-a-token"])
def test_showing_something_that_is_not_a_token_is_an_error(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("KTRDR_TOKEN", text)
    with pytest.raises(KtrdrError):
        call("show")
