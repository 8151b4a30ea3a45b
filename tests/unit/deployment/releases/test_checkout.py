"""The local checkout, with a real git."""

from __future__ import annotations

import subprocess

import pytest

from ktrdr.deployment.releases.checkout import Checkout, ambiguous_image_error
from ktrdr.errors import ConfigurationError

SETTINGS = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@pytest.fixture(autouse=True)
def own_git(monkeypatch):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def git(tmp_path):
    def run(*arguments):
        done = subprocess.run(
            ["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return run


@pytest.fixture
def checkout(tmp_path, git):
    git("init", "-q", "-b", "main")
    (tmp_path / "docker-compose.core.yml").write_text("services: {}\n")
    (tmp_path / ".env.core").write_text("A=1\n")
    (tmp_path / "monitoring" / "ö dir").mkdir(parents=True)
    (tmp_path / "monitoring" / "ö dir" / "rules.yml").write_text("first\n")
    (tmp_path / "other.txt").write_text("not shipped\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return Checkout(tmp_path)


@pytest.fixture
def pushed(checkout, git, tmp_path_factory):
    remote = tmp_path_factory.mktemp("remote")
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    git("remote", "add", "origin", str(remote))
    git("push", "-q", "origin", "main")
    return checkout


def test_a_clean_and_pushed_commit_has_no_warnings(pushed, git):
    head = pushed.head()

    assert head.commit == git("rev-parse", "HEAD")
    assert head.warnings() == ()


def test_a_commit_that_is_not_pushed_has_a_warning(pushed, git):
    git("commit", "-q", "--allow-empty", "-m", "second")

    (warning,) = pushed.head().warnings()
    assert warning.endswith("is not on a remote branch, so CI has not built its image")


def test_changed_new_and_renamed_files_are_a_warning(pushed, git, tmp_path):
    (tmp_path / ".env.core").write_text("A=2\n")
    (tmp_path / "new.txt").write_text("")
    git("mv", "other.txt", "renamed.txt")

    head = pushed.head()

    assert sorted(head.changed_files) == [".env.core", "new.txt", "other.txt", "renamed.txt"]
    assert "uncommitted changes (" in head.warnings()[0]


def test_many_changed_files_are_counted(pushed, tmp_path):
    for number in range(5):
        (tmp_path / f"new{number}").write_text("")

    assert "(new0, new1, new2 and 2 more)" in pushed.head().warnings()[0]


def test_unconfirmed_warnings_are_a_configuration_error():
    error = ambiguous_image_error(["one", "other"])

    assert error.message == "it is not clear which image to deploy: one; other"
    assert "--tag" in (error.hint or "")
    assert error.exit_code == 3


def test_committed_files_are_shipped_rather_than_changed_ones(checkout, git, tmp_path):
    (tmp_path / ".env.core").write_text("A=changed\n")

    release = checkout.load_release("core", None)

    assert release.tag == f"sha-{git('rev-parse', 'HEAD')[:7]}"
    assert release.commit == git("rev-parse", "HEAD")
    assert release.files == {
        "docker-compose.core.yml": b"services: {}\n",
        ".env.core": b"A=1\n",
        "monitoring/ö dir/rules.yml": b"first\n",
    }


def test_a_tag_selects_the_configuration_of_its_commit(checkout, git, tmp_path):
    first = git("rev-parse", "HEAD")
    (tmp_path / ".env.core").write_text("A=2\n")
    git("commit", "-qam", "second")

    release = checkout.load_release("core", f"sha-{first[:7]}")

    assert release.commit == first
    assert release.files[".env.core"] == b"A=1\n"


@pytest.mark.parametrize("tag", ["latest", "sha-0000000"])
def test_a_tag_without_a_known_commit_selects_the_working_tree(checkout, tmp_path, tag):
    (tmp_path / ".env.core").write_text("A=changed\n")

    release = checkout.load_release("core", tag)

    assert release.commit is None
    assert release.source == "the working tree"
    assert release.files[".env.core"] == b"A=changed\n"


def test_a_commit_without_the_files_gives_an_empty_release(checkout, git):
    git("rm", "-q", "-r", "monitoring", ".env.core", "docker-compose.core.yml")
    git("commit", "-qm", "nothing left")

    assert checkout.load_release("core", None).files == {}


def test_without_a_checkout_there_is_no_default_image(tmp_path):
    with pytest.raises(ConfigurationError, match="is not a git checkout"):
        Checkout.find(tmp_path).head()


def test_without_a_checkout_a_tag_ships_the_files_of_the_directory(tmp_path):
    (tmp_path / ".env.core").write_text("A=1\n")

    assert Checkout.find(tmp_path).load_release("core", "sha-abc1234").files == {
        ".env.core": b"A=1\n"
    }


def test_the_checkout_is_found_from_a_subdirectory(checkout, tmp_path):
    assert Checkout.find(tmp_path / "monitoring").root == tmp_path


def test_without_git_the_directory_itself_is_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Checkout.find(tmp_path).root == tmp_path


def test_commits_between_two_releases_are_added_or_removed(checkout, git) -> None:
    first = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "two")
    second = git("rev-parse", "HEAD")
    between = checkout.commits_between(f"sha-{first[:7]}", second)
    assert [line.partition(" ")[2] for line in between.added] == ["two"]
    assert between.removed == ()
    back = checkout.commits_between(second, first)
    assert [line.partition(" ")[2] for line in back.removed] == ["two"]
    assert back.added == ()


@pytest.mark.parametrize("name", ["sha-0000000", "--all", "latest", ""])
def test_an_unknown_release_has_no_commit_range(checkout, name) -> None:
    assert checkout.commits_between(name, checkout.head().commit) is None
