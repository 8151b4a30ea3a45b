"""Checkouts and settings of git as people have them, with a real git."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.errors import ConfigurationError

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false")
FILES = {
    "docker-compose.core.yml": b"services: {}\n",
    ".env.core": b"A=1\n",
    "monitoring/prometheus.yml": b"# $Id$ $Format:%H$\nglobal: {}\n",
    "monitoring/windows.yml": b"a: 1\r\nb: 2\r\n",
    "monitoring/bytes.bin": bytes(range(256)),
}

Git = Callable[..., str]


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give git a configuration of its own, and return its file."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    return tmp_path / "gitconfig"


def git_in(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", directory, *IDENTITY, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write_files(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Provide a repository with two commits, the first of them tagged v1."""
    place = tmp_path / "origin"
    place.mkdir()
    git_in(place, "init", "-q", "-b", "main")
    write_files(place, FILES)
    # The commit has exactly these bytes.
    git_in(place, "-c", "core.autocrlf=false", "add", ".")
    git_in(place, "commit", "-q", "-m", "größer")
    git_in(place, "tag", "v1")
    git_in(place, "commit", "-q", "--allow-empty", "-m", "second")
    git_in(place, "config", "uploadpack.allowFilter", "true")
    git_in(place, "config", "uploadpack.allowAnySHA1InWant", "true")
    return place


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """Provide a clone."""
    subprocess.run(["git", "clone", "-q", origin, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


def fetched(origin: Path, target: Path, *refspecs: str, depth: str = "1") -> Checkout:
    """Fetch into a new repository as CI does, and check out what came last."""
    target.mkdir()
    git_in(target, "init", "-q")
    git_in(target, "remote", "add", "origin", f"file://{origin}")
    for refspec in refspecs:
        git_in(target, "fetch", "-q", "--no-tags", f"--depth={depth}", "origin", refspec)
    git_in(target, "checkout", "-q", "--detach", "FETCH_HEAD")
    return Checkout(target)


# ---- line ends, and other conversions


@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
@pytest.mark.parametrize(
    "attributes", ["", "* text eol=crlf\n", "* text ident export-subst\n", "*.yml export-ignore\n"]
)
def test_the_bytes_of_the_commit_are_shipped_whatever_this_machine_converts(
    place: Path, own_git: Path, autocrlf: str, attributes: str
) -> None:
    own_git.write_text(f"[core]\nautocrlf = {autocrlf}\neol = crlf\n")
    (place / ".git/info/attributes").write_text(attributes)

    assert Checkout(place).load_release("core", None).files == FILES


def test_a_checkout_with_the_line_ends_of_windows_ships_those_of_the_commit(place: Path) -> None:
    committed = {name: FILES[name] for name in ("docker-compose.core.yml", ".env.core")}
    converted = {name: text.replace(b"\n", b"\r\n") for name, text in committed.items()}
    write_files(place, converted | {"monitoring/image": b"\0\r\n"})

    shipped = Checkout(place).load_release("core", "latest").files

    assert {name: shipped[name] for name in committed} == committed
    assert shipped["monitoring/image"] == b"\0\r\n"


def test_this_repository_is_checked_out_with_the_same_line_ends_everywhere(
    tmp_path: Path, own_git: Path
) -> None:
    root = Path(__file__).parents[2]
    own_git.write_text(f"[core]\nautocrlf = true\n[safe]\ndirectory = {root}\n")
    listed = git_in(root, "check-attr", "text", "eol", "--", "docker-compose.core.yml")

    assert listed.splitlines() == [
        "docker-compose.core.yml: text: auto",
        "docker-compose.core.yml: eol: lf",
    ]


def test_an_object_that_is_lost_is_named(origin: Path) -> None:
    blob = git_in(origin, "rev-parse", "HEAD:.env.core")
    (origin / ".git/objects" / blob[:2] / blob[2:]).unlink()

    with pytest.raises(ConfigurationError, match=r"has no readable \.env\.core"):
        Checkout(origin).load_release("core", None)


def test_links_and_submodules_are_not_shipped(origin: Path) -> None:
    (origin / "monitoring/link.yml").symlink_to("prometheus.yml")
    commit = git_in(origin, "rev-parse", "HEAD")
    git_in(origin, "update-index", "--add", "--cacheinfo", f"160000,{commit},monitoring/module")
    git_in(origin, "add", "monitoring/link.yml")
    git_in(origin, "commit", "-qm", "not files")

    assert Checkout(origin).load_release("core", None).files == FILES


NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and name.lower() != ".git")


@given(files=st.dictionaries(NAMES, st.binary(max_size=60), min_size=1, max_size=3))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_name_and_any_content_are_shipped_as_committed(files: dict[str, bytes]) -> None:
    expected = {f"monitoring/{name}": content for name, content in files.items()}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        git_in(root, "init", "-q")
        try:
            write_files(root, expected)
        except OSError:  # the file system has no such name
            return
        git_in(root, "-c", "core.autocrlf=false", "add", "--force", ".")
        git_in(root, "commit", "-qm", "any")

        assert Checkout(root).load_release("core", None).files == expected


# ---- settings that change what git prints

DECORATIONS = """
[color]
    ui = always
    branch = always
    diff = always
    status = always
[column]
    ui = always
[core]
    abbrev = 40
    quotePath = true
    pager = false
    fsmonitor = {hook}
[diff]
    renames = copies
    noprefix = true
[format]
    pretty = fuller
[i18n]
    logOutputEncoding = ISO-8859-1
[log]
    showSignature = true
    decorate = full
    abbrevCommit = false
    date = relative
[pager]
    branch = true
    log = true
    status = true
[status]
    branch = true
    relativePaths = true
    short = true
    showStash = true
    showUntrackedFiles = no
[advice]
    detachedHead = true
"""


def describe(place: Path) -> tuple[object, ...]:
    checkout = Checkout.find(place / "monitoring")
    first = git_in(place, "rev-parse", "v1")
    return (
        checkout.root,
        checkout.head(),
        checkout.recent_commits(5),
        checkout.commits_between(first, "HEAD"),
        checkout.load_release("core", None),
    )


def test_settings_that_decorate_the_output_change_nothing(
    place: Path, own_git: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "größe.txt").write_text("new\n")
    git_in(place, "mv", ".env.core", "renamed")
    plain = describe(place)

    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\nsleep 300 &\n")
    hook.chmod(0o755)
    own_git.write_text(DECORATIONS.replace("{hook}", str(hook)))
    for name, value in {
        "GIT_PAGER_IN_USE": "1",
        "GIT_TRACE": "1",
        "GIT_ICASE_PATHSPECS": "1",
        "GIT_DEFAULT_HASH": "sha256",
        "LC_ALL": "de_DE.UTF-8",
        "LANGUAGE": "de",
    }.items():
        monkeypatch.setenv(name, value)

    assert describe(place) == plain
    head = Checkout(place).head()
    assert sorted(head.changed_files) == [".env.core", "größe.txt", "renamed"]
    assert [subject for _, subject in Checkout(place).recent_commits(5)] == ["second", "größer"]


def test_commits_are_listed_with_seven_characters(place: Path) -> None:
    commits = Checkout(place).commits_between("v1", "HEAD")
    assert commits is not None
    assert commits.added == (f"{git_in(place, 'rev-parse', 'HEAD')[:7]} second",)


# ---- variables of a hook


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_DIR": "."},
        {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index"},
        {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/"},
        {"GIT_OBJECT_DIRECTORY": "/nowhere", "GIT_QUARANTINE_PATH": "/nowhere"},
        {"GIT_NAMESPACE": "other", "GIT_PREFIX": "sub/", "GIT_CONFIG": "/nowhere"},
        {"GIT_SHALLOW_FILE": "/nowhere", "GIT_COMMON_DIR": "/nowhere"},
    ],
)
def test_variables_that_a_hook_of_git_sets_lead_to_no_other_repository(
    place: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    plain = describe(place)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place)

    checkout = Checkout.find(place / "monitoring")

    assert (checkout.root, checkout.head()) == plain[:2]
    assert checkout.load_release("core", None) == plain[-1]


def test_a_hook_after_a_push_deploys_the_checkout_that_it_updates(
    place: Path, tmp_path: Path
) -> None:
    bare, live = tmp_path / "bare.git", tmp_path / "live"
    subprocess.run(["git", "clone", "-q", "--bare", place, bare], check=True)
    subprocess.run(["git", "clone", "-q", bare, live], check=True)
    program = tmp_path / "describe.py"
    program.write_text(
        "from pathlib import Path\nfrom ktrdr.deployment.releases.checkout import Checkout\n"
        f"head = Checkout.find(Path('{live}')).head()\n"
        f"Path('{tmp_path}/seen').write_text(repr((head.commit, head.warnings())))\n"
    )
    hook = bare / "hooks/post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\nenv -u GIT_DIR git -C {live} pull -q\nexec {sys.executable} {program}\n"
    )
    hook.chmod(0o755)
    git_in(place, "commit", "-q", "--allow-empty", "-m", "third")

    git_in(place, "push", "-q", str(bare), "HEAD:main")

    commit = git_in(place, "rev-parse", "HEAD")
    assert (tmp_path / "seen").read_text() == repr((commit, ()))


# ---- git that refuses, and no git


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_checkout_of_another_user_is_named_and_the_remedy_works(place: Path) -> None:
    for path in (place, *place.rglob("*")):
        os.lchown(path, 12345, 12345)
    checkout = Checkout.find(place / "monitoring")
    assert checkout.root == place

    with pytest.raises(ConfigurationError) as caught:
        checkout.head()
    assert "dubious ownership in repository" in caught.value.message
    remedy = (caught.value.hint or "").removeprefix("Run `").removesuffix("`.")
    commit = git_in_spite_of_the_owner(place)
    with pytest.raises(ConfigurationError, match="detected dubious ownership"):
        checkout.load_release("core", f"sha-{commit[:7]}")

    assert remedy == f"git config --global --add safe.directory {place}"
    subprocess.run(remedy.split(), check=True)
    assert checkout.head().commit == commit


def git_in_spite_of_the_owner(place: Path) -> str:
    return git_in(place, "-c", f"safe.directory={place}", "for-each-ref", "--format=%(objectname)",
                  "refs/heads/main")  # fmt: skip


def test_a_missing_git_is_named_even_with_the_tag_of_a_commit(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    checkout = Checkout.find(place / "monitoring")
    assert checkout.root == place

    for load in (checkout.head, lambda: checkout.load_release("core", "sha-abc1234")):
        with pytest.raises(ConfigurationError, match="git is not installed on this machine"):
            load()


def test_without_git_and_repository_the_files_are_deployed_with_a_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "exported", FILES)
    monkeypatch.setenv("PATH", "/nowhere")
    checkout = Checkout.find(tmp_path / "exported")

    release = checkout.load_release("core", "sha-abc1234")

    assert release.files[".env.core"] == FILES[".env.core"]
    assert release.note.startswith("sha-abc1234 names no commit of this checkout, so the")
    with pytest.raises(ConfigurationError, match="is not a git checkout"):
        checkout.head()


def test_the_program_of_macos_that_only_offers_to_install_git_is_quoted(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin/git"
    stub.write_text(
        "#!/bin/sh\necho 'xcrun: error: invalid active developer path "
        "(/Library/Developer/CommandLineTools), missing xcrun' >&2\nexit 1\n"
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    with pytest.raises(ConfigurationError, match="invalid active developer path"):
        Checkout.find(place).head()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("gitconfig", "[core\n", "bad config line 1 in file"),
        ("clone/.git/HEAD", "nonsense\n", "not a git repository"),
        ("clone/.git/config", "[core]\nrepositoryformatversion = 99\n", "git repo version"),
    ],
)
def test_any_other_refusal_is_quoted(
    place: Path, tmp_path: Path, file: str, content: str, reason: str
) -> None:
    (tmp_path / file).write_text(content)

    for load in (Checkout(place).head, lambda: Checkout(place).load_release("core", "sha-abc1234")):
        with pytest.raises(ConfigurationError) as caught:
            load()
        assert caught.value.message.startswith(f"git cannot read the checkout {place}: ")
        assert reason in caught.value.message
        assert f"git -C {place} status" in (caught.value.hint or "")


def test_a_git_that_hangs_is_given_up(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr("ktrdr.deployment.releases.git._TIMEOUT_S", 0.3)

    with pytest.raises(ConfigurationError, match="did not answer within"):
        Checkout(place).head()


def test_a_blob_that_a_partial_clone_cannot_fetch_is_named(origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "partial"
    filtered = ["--filter=blob:none", "--no-checkout", f"file://{origin}", str(place)]
    subprocess.run(["git", "clone", "-q", *filtered], check=True)
    assert Checkout(place).load_release("core", None).files == FILES
    subprocess.run(["rm", "-rf", str(place)], check=True)
    subprocess.run(["git", "clone", "-q", *filtered], check=True)
    origin.rename(tmp_path / "moved")

    with pytest.raises(ConfigurationError, match="git cannot read the checkout"):
        Checkout(place).load_release("core", None)


def test_a_bare_repository_deploys_its_head(place: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--bare", place, tmp_path / "bare.git"], check=True)

    checkout = Checkout.find(tmp_path / "bare.git")

    assert checkout.head().changed_files == ()
    assert checkout.load_release("core", None).files == FILES


# ---- whether CI has built the commit

NOT_PUSHED = "is not on a remote branch, so CI has not built its image"


def test_a_pull_requests_merge_commit_is_not_pushed(origin: Path, tmp_path: Path) -> None:
    git_in(origin, "update-ref", "refs/pull/5/merge", "HEAD")
    merge = "+refs/pull/5/merge:refs/remotes/pull/5/merge"

    head = fetched(origin, tmp_path / "ci", merge).head()

    assert head.pushed is False
    assert head.warnings()[0].endswith(NOT_PUSHED)


@pytest.mark.parametrize(
    "setting",
    [
        "+refs/pull/*/head:refs/remotes/origin/pr/*",
        "+refs/pull/*/merge:refs/remotes/origin/pull/*/merge",
        "+refs/merge-requests/*/head:refs/remotes/origin/merge-requests/*",
    ],
)
def test_pull_requests_that_are_fetched_beside_the_branches_are_not_branches(
    origin: Path, place: Path, setting: str
) -> None:
    git_in(place, "commit", "-q", "--allow-empty", "-m", "asked")
    source = setting.partition(":")[0].removeprefix("+").replace("*", "5")
    git_in(place, "push", "-q", "origin", f"HEAD:{source}")
    git_in(place, "config", "--add", "remote.origin.fetch", setting)
    git_in(place, "fetch", "-q")

    assert git_in(place, "branch", "-r", "--contains", "HEAD")
    assert Checkout(place).head().pushed is False
    git_in(place, "push", "-q", "origin", "HEAD:refs/heads/other")
    assert Checkout(place).head().pushed is True


@pytest.mark.parametrize("refspec", ["+refs/tags/v1:refs/tags/v1", "HEAD"])
def test_a_tag_or_a_commit_fetched_alone_is_noted_and_not_refused(
    origin: Path, tmp_path: Path, refspec: str
) -> None:
    head = fetched(origin, tmp_path / "ci", refspec).head()

    assert (head.pushed, head.warnings()) == (None, ())
    assert head.note().startswith("this shallow clone cannot show whether commit")


def test_the_remedy_for_a_shallow_clone_works(origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "ci"
    single = ["--depth=1", "--branch=v1", "-c", "advice.detachedHead=false"]
    subprocess.run(["git", "clone", "-q", *single, f"file://{origin}", place], check=True)
    note = Checkout(place).head().note()

    git_in(place, *note.partition("`git ")[2].partition("`")[0].replace("'", "").split())

    assert Checkout(place).head().pushed is True
    assert Checkout(place).head().note() == ""


def test_a_branch_fetched_alone_is_pushed(origin: Path, tmp_path: Path) -> None:
    branch = "+refs/heads/main:refs/remotes/origin/main"

    assert fetched(origin, tmp_path / "ci", branch).head().pushed is True


def test_a_commit_made_in_a_shallow_clone_is_not_pushed(origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "ci"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{origin}", place], check=True)
    assert Checkout(place).head().pushed is True
    git_in(place, "commit", "-q", "--allow-empty", "-m", "local")

    assert Checkout(place).head().pushed is False


def test_a_tag_of_a_full_clone_is_pushed_if_a_branch_has_it(place: Path) -> None:
    git_in(place, "checkout", "-q", "--detach", "v1")
    assert Checkout(place).head().pushed is True


def test_a_commit_that_a_shallow_clone_lacks_is_found_in_a_complete_one(
    origin: Path, tmp_path: Path
) -> None:
    branch = "+refs/heads/main:refs/remotes/origin/main"
    checkout = fetched(origin, tmp_path / "ci", branch)
    first = git_in(origin, "rev-parse", "v1")

    release = checkout.load_release("core", f"sha-{first[:7]}")

    assert release.commit is None
    assert release.note.startswith(f"sha-{first[:7]} names no commit of this checkout")
    git_in(checkout.root, "fetch", "-q", "--unshallow")
    assert checkout.load_release("core", f"sha-{first[:7]}").commit == first


def test_without_the_history_between_two_commits_no_commit_is_called_removed(
    origin: Path, tmp_path: Path
) -> None:
    first, last = (git_in(origin, "rev-parse", name) for name in ("v1", "main"))

    checkout = fetched(origin, tmp_path / "ci", first, last)

    assert checkout.commits_between(first, last) is None
