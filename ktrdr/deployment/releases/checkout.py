"""The local git checkout: which commit is to be deployed, and the files that belong to it."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.deployment.releases.release import Release, Target, commit_in, shipped_paths, tag_of
from ktrdr.errors import ConfigurationError

# What to do where the checkout leaves open which image is meant.
TAG_HINT: Final = "Commit and push, wait for CI to build the image, or name one with --tag."
_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Head:
    """The commit that is checked out.

    Attributes:
        commit: Its full id.
        changed_files: Files that differ from it, or are not part of it.
        pushed: Whether a remote branch has it.
    """

    commit: str
    changed_files: tuple[str, ...]
    pushed: bool

    def doubts(self) -> tuple[str, ...]:
        """Why its image may not be what the operator means to deploy."""
        found = []
        if self.changed_files:
            files = ", ".join(self.changed_files[:3])
            more = len(self.changed_files) - 3
            found.append(
                f"the checkout has uncommitted changes ({files}"
                + (f" and {more} more)" if more > 0 else ")")
            )
        if not self.pushed:
            found.append(f"commit {self.commit[:7]} is on no remote branch, so CI built no image")
        return tuple(found)


def undecided(doubts: Iterable[str]) -> ConfigurationError:
    """What is raised where nobody can be asked whether to go on in spite of doubts."""
    return ConfigurationError(
        f"it is not clear which image to deploy: {'; '.join(doubts)}", hint=TAG_HINT
    )


@dataclass(frozen=True, slots=True)
class Between:
    """The commits between two releases, newest first, each as ``git log --oneline`` has it.

    Attributes:
        added: Those that the new one has and the old one has not.
        taken_back: Those that the old one has and the new one has not.
    """

    added: tuple[str, ...]
    taken_back: tuple[str, ...]


class Checkout:
    """A directory with the project's files, usually a git checkout."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def around(cls, directory: Path) -> Checkout:
        """The checkout that a directory is in; where there is none, the directory itself."""
        top = _git(directory, "rev-parse", "--show-toplevel")
        return cls(Path(top.decode().rstrip("\n")) if top else directory)

    @property
    def root(self) -> Path:
        """Its top directory."""
        return self._root

    def owner(self) -> str | None:
        """Whose it is on GitHub, as the remote ``origin`` says; CI puts the images there."""
        url = _git(self._root, "remote", "get-url", "origin") or b""
        found = re.search(r"github\.com[:/]+([A-Za-z0-9-]+)/", url.decode("utf-8", "replace"))
        return found[1].lower() if found else None

    def recent(self, count: int) -> list[tuple[str, str]]:
        """The last commits, newest first, each with the first line of its message."""
        log = _git(self._root, "log", f"--max-count={count}", "--format=%H %s") or b""
        lines = log.decode("utf-8", "replace").splitlines()
        return [(commit, subject) for commit, _, subject in (each.partition(" ") for each in lines)]

    def head(self) -> Head:
        """The commit that is checked out.

        Raises:
            ConfigurationError: This is no git checkout, or has no commit.
        """
        commit = _git(self._root, "rev-parse", "--verify", "--quiet", "HEAD")
        if not commit:
            raise ConfigurationError(
                f"{self._root} is not a git checkout with a commit, so no image follows from it",
                hint="Run ktrdr in a checkout of the project, or name an image with --tag.",
            )
        changes = _git(self._root, "status", "--porcelain", "-z") or b""
        branches = _git(self._root, "branch", "--remotes", "--contains", "HEAD") or b""
        return Head(
            commit=commit.decode().strip(),
            changed_files=tuple(_changed(changes.decode("utf-8", "replace"))),
            pushed=bool(branches.strip()),
        )

    def release(self, target: Target, tag: str | None) -> Release:
        """The release that a tag names, or that of the commit which is checked out.

        A tag of the form ``sha-abc1234`` brings the configuration of that very commit, if it is
        known here; any other brings the files as they are.

        Raises:
            ConfigurationError: There is no such checkout or file.
        """
        commit = self._commit_of(tag) if tag else self.head().commit
        if commit is None:
            files = dict(self._files_here(target))
        else:
            files = dict(self._files_of(commit, target))
        return Release(tag or tag_of(commit or ""), commit, files)

    def between(self, old: str, new: str) -> Between | None:
        """The commits that come and go from one release to another.

        Args:
            old: A tag or commit.
            new: A tag or commit.

        Returns:
            None where one of them is not known here.
        """
        ends = [self._verified(commit_in(name) or name) for name in (old, new)]
        if None in ends:
            return None
        first, last = ends
        return Between(self._log(f"{first}..{last}"), self._log(f"{last}..{first}"))

    def _log(self, commits: str) -> tuple[str, ...]:
        listed = _git(self._root, "log", "--oneline", "--no-decorate", commits, "--")
        return tuple((listed or b"").decode("utf-8", "replace").splitlines())

    def _verified(self, name: str) -> str | None:
        found = _git(
            self._root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        return found.decode().strip() if found else None

    def _commit_of(self, tag: str) -> str | None:
        beginning = commit_in(tag)
        return self._verified(beginning) if beginning else None

    def _files_of(self, commit: str, target: Target) -> Iterator[tuple[str, bytes]]:
        listing = _git(
            self._root, "ls-tree", "-r", "-z", "--name-only", commit, "--", *shipped_paths(target)
        )
        names = [name for name in (listing or b"").decode().split("\0") if name]
        if not names:
            return
        archive = _git(self._root, "archive", "--format=tar", commit, "--", *names)
        if archive is None:
            raise ConfigurationError(
                f"git cannot give the files of commit {commit[:7]}",
                hint="Look at what `git archive` says; the checkout may be a partial one.",
            )
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content:
                    yield member.name, content.read()

    def _files_here(self, target: Target) -> Iterator[tuple[str, bytes]]:
        for shipped in shipped_paths(target):
            path = self._root / shipped
            found = sorted(path.rglob("*")) if shipped.endswith("/") else [path]
            for file in found:
                if file.is_file():
                    yield file.relative_to(self._root).as_posix(), file.read_bytes()


def _changed(status: str) -> Iterator[str]:
    entries = iter(status.split("\0"))
    for entry in entries:
        if entry:
            yield entry[3:]
        # A renamed file is followed by its former name.
        if entry[:1] in ("R", "C"):
            next(entries, None)


def _git(directory: Path, *arguments: str) -> bytes | None:
    """What git prints, or None if it refuses or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
