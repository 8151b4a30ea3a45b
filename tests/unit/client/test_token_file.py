from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ktrdr.client.token_file import configuration_file, save_token, token_in_use
from ktrdr.errors import ConfigurationError, SecretsError
from ktrdr.secret import Secret

TOKEN = Secret("aaa.bbb.ccc")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_and_its_directories_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "config" / "ktrdr" / "config.toml"
    save_token(path, TOKEN)
    assert tomllib.loads(path.read_text()) == {"token": "aaa.bbb.ccc"}
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_only_the_token_changes_in_a_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('# mine\napi_url = "http://x"\ntoken="old"\n\n[more]\ntoken = "kept"\n')
    path.chmod(0o644)
    save_token(path, TOKEN)
    assert path.read_text() == (
        '# mine\napi_url = "http://x"\ntoken = "aaa.bbb.ccc"\n\n[more]\ntoken = "kept"\n'
    )
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_a_token_gets_one_above_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[more]\nkey = "value"\n')
    save_token(path, TOKEN)
    assert tomllib.loads(path.read_text()) == {
        "token": "aaa.bbb.ccc",
        "more": {"key": "value"},
    }


def test_a_token_of_a_table_is_not_taken_for_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[more]\ntoken = "kept"\n')
    with pytest.raises(ConfigurationError, match="cannot be found"):
        save_token(path, TOKEN)
    assert path.read_text() == '[more]\ntoken = "kept"\n'


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("")
    link = tmp_path / "config.toml"
    link.symlink_to("real.toml")
    save_token(link, TOKEN)
    assert link.is_symlink()
    assert "aaa.bbb.ccc" in (tmp_path / "real.toml").read_text()


@pytest.mark.parametrize("content", [b"token = ", b"\xff"])
def test_a_file_that_cannot_be_understood_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        save_token(path, TOKEN)
    with pytest.raises(ConfigurationError):
        token_in_use({"KTRDR_CONFIG": str(path)})
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file/config\.toml cannot be"):
        save_token(tmp_path / "file" / "config.toml", TOKEN)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    environ = {"KTRDR_CONFIG": str(path)}
    with pytest.raises(SecretsError, match="there is no token"):
        token_in_use(environ)
    save_token(path, TOKEN)
    assert token_in_use(environ) == TOKEN
    assert token_in_use(environ | {"KTRDR_TOKEN": "x"}) == Secret("x")


def test_the_usual_place_is_in_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert configuration_file({}) == Path("/home/ann/.config/ktrdr/config.toml")
