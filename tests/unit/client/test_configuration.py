from __future__ import annotations

from pathlib import Path

import pytest

from ktrdr.client.configuration import read_api_url, read_token, save_token, token_path
from ktrdr.errors import ConfigurationError, SecretsError
from ktrdr.secret import Secret

TOKEN = Secret("aaa.bbb.ccc")


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a user whose home directory is empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return {}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def old_configuration(home: Path, content: str = 'token = "old"\n') -> None:
    file = home / ".config/ktrdr/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(content)


def test_a_new_token_file_and_its_directory_are_accessible_to_their_owner_only(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config" / "ktrdr" / "token"
    save_token(path, TOKEN)
    assert path.read_text() == "aaa.bbb.ccc\n"
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_a_token_file_is_replaced_whole_whatever_its_mode_was(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("something older and longer")
    path.chmod(0o644)
    with path.open() as reader:
        save_token(path, TOKEN)
        assert reader.read() == "something older and longer", "a reader sees one file or the other"
    assert (path.read_text(), mode(path)) == ("aaa.bbb.ccc\n", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_the_token_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    link = tmp_path / "token"
    link.symlink_to("real")
    save_token(link, TOKEN)
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "aaa.bbb.ccc\n"


def test_a_token_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file/token cannot be written: File exists"):
        save_token(tmp_path / "file" / "token", TOKEN)


def test_the_environment_precedes_the_token_file_which_precedes_the_configuration_file(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with pytest.raises(SecretsError, match=r"no token in KTRDR_TOKEN or .*/\.config/ktrdr/token$"):
        read_token(environ)
    old_configuration(tmp_path)
    assert read_token(environ) == Secret("old"), "where earlier releases saved it"
    save_token(token_path(environ), TOKEN)
    assert read_token(environ) == TOKEN
    assert read_token({**environ, "KTRDR_TOKEN": "x"}) == Secret("x")


def test_saving_a_token_does_not_change_the_configuration_file(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    content = '# mine\napi_url = "http://x:1"\ntoken = "old"\n'
    old_configuration(tmp_path, content)
    save_token(token_path(environ), TOKEN)
    assert (tmp_path / ".config/ktrdr/config.toml").read_text() == content
    assert read_api_url(environ) == "http://x:1"


def test_an_empty_token_file_is_no_token(tmp_path: Path, environ: dict[str, str]) -> None:
    token_path(environ).parent.mkdir(parents=True)
    token_path(environ).write_text("\n")
    with pytest.raises(SecretsError, match="there is no token"):
        read_token(environ)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "/home/ann/.config/ktrdr/token"),
        ({"XDG_CONFIG_HOME": "/home/ann/settings"}, "/home/ann/settings/ktrdr/token"),
        ({"XDG_CONFIG_HOME": "settings"}, "/home/ann/.config/ktrdr/token"),
        ({"KTRDR_CONFIG": "/srv/lab.toml"}, "/srv/lab.token"),
        ({"KTRDR_CONFIG": "/srv/lab.toml", "XDG_CONFIG_HOME": "/x"}, "/srv/lab.token"),
    ],
)
def test_each_configuration_file_has_its_own_token_file(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert token_path(variables) == Path(expected)


@pytest.mark.parametrize(
    ("changes", "directory"),
    [
        ({}, "home/.config/ktrdr"),
        ({"XDG_CONFIG_HOME": "settings"}, "home/.config/ktrdr"),
        ({"XDG_CONFIG_HOME": "{tmp}/settings"}, "settings/ktrdr"),
    ],
)
def test_the_configuration_file_is_beside_the_token_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], directory: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = tmp_path / directory / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('api_url = "http://here:1"\n')
    environ = {name: value.replace("{tmp}", str(tmp_path)) for name, value in changes.items()}
    assert read_api_url(environ) == "http://here:1"
    assert token_path(environ).parent == file.parent


def test_the_configuration_file_of_the_release_before_is_read_for_one_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    former, current = tmp_path / ".config/ktrdr", tmp_path / "settings/ktrdr"
    for directory, host in ((former, "former"), (current, "current")):
        directory.mkdir(parents=True)
        (directory / "config.toml").write_text(f'api_url = "http://{host}:1"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "settings")}
    assert read_api_url(environ) == "http://current:1"
    (current / "config.toml").unlink()
    assert read_api_url(environ) == "http://former:1"


@pytest.mark.parametrize("content", [b"token = ", b"\xff", b"token = 5"])
def test_a_configuration_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises((ConfigurationError, SecretsError)):
        read_token({"KTRDR_CONFIG": str(path)})


def test_a_token_file_that_is_not_text_is_an_error_without_its_content(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    token_path(environ).parent.mkdir(parents=True)
    token_path(environ).write_bytes(b"aaa.bbb\xff")
    with pytest.raises(
        ConfigurationError, match="ktrdr/token cannot be read: it is not UTF-8"
    ) as e:
        read_token(environ)
    assert "aaa" not in f"{e.value} {e.value.hint}"
