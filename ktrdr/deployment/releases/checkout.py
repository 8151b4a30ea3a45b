"""Local git checkout: the commit to deploy, and the files that belong to it."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.deployment.releases.release import (
    Release,
    commit_in_tag,
    shipped_paths,
    tag_for_commit,
)
from ktrdr.errors import ConfigurationError

# Remedy if the checkout does not determine the image.
TAG_HINT: Final = "Commit and push, wait for CI to build the image, or name one with --tag."
_TIMEOUT_S: Final = 60
_LISTED_FILES: Final = 3


@dataclass(frozen=True, slots=True)
class Head:
    """Commit that is checked out.

    Attributes:
        commit: Full id.
        changed_files: Files that differ from the commit, or are not part of it.
        pushed: Whether a remote branch has the commit.
    """

    commit: str
    changed_files: tuple[str, ...]
    pushed: bool

    def warnings(self) -> tuple[str, ...]:
        """Return the reasons why the commit's image may not be the one to deploy, one for each."""
        warnings = []
        if self.changed_files:
            files = ", ".join(self.changed_files[:_LISTED_FILES])
            more = len(self.changed_files) - _LISTED_FILES
            suffix = f" and {more} more" if more > 0 else ""
            warnings.append(f"the checkout has uncommitted changes ({files}{suffix})")
        if not self.pushed:
            warnings.append(
                f"commit {self.commit[:7]} is not on a remote branch, so CI has not built its image"
            )
        return tuple(warnings)


def ambiguous_image_error(warnings: Iterable[str]) -> ConfigurationError:
    """Return the error for warnings that a command without a terminal cannot confirm."""
    return ConfigurationError(
        f"it is not clear which image to deploy: {'; '.join(warnings)}", hint=TAG_HINT
    )


@dataclass(frozen=True, slots=True)
class CommitRange:
    """Commits between two releases, newest first, each as a line of ``git log --oneline``.

    Attributes:
        added: Commits of the new release that the old one does not have.
        removed: Commits of the old release that the new one does not have.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]


class Checkout:
    """Directory with the project's files, usually a git checkout."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def find(cls, directory: Path) -> Checkout:
        """Return the checkout that contains a directory, or the directory itself if none does."""
        top = _git(directory, "rev-parse", "--show-toplevel")
        return cls(Path(top.decode().rstrip("\n")) if top else directory)

    @property
    def root(self) -> Path:
        return self._root

    def github_owner(self) -> str | None:
        """Return the GitHub owner of the remote ``origin``, under which CI publishes images."""
        url = _git(self._root, "remote", "get-url", "origin") or b""
        match = re.search(r"github\.com[:/]+([A-Za-z0-9-]+)/", url.decode("utf-8", "replace"))
        return match[1].lower() if match else None

    def recent_commits(self, count: int) -> list[tuple[str, str]]:
        """Return the last commits, newest first, each with the first line of its message."""
        log = _git(self._root, "log", f"--max-count={count}", "--format=%H %s") or b""
        lines = (line.partition(" ") for line in log.decode("utf-8", "replace").splitlines())
        return [(commit, subject) for commit, _, subject in lines]

    def head(self) -> Head:
        """Return the commit that is checked out.

        Raises:
            ConfigurationError: This is not a git checkout, or it has no commit.
        """
        commit = _git(self._root, "rev-parse", "--verify", "--quiet", "HEAD")
        if not commit:
            raise ConfigurationError(
                f"{self._root} is not a git checkout or has no commit, so no image can be selected",
                hint="Run ktrdr in a checkout of the project, or name an image with --tag.",
            )
        changes = _git(self._root, "status", "--porcelain", "-z") or b""
        branches = _git(self._root, "branch", "--remotes", "--contains", "HEAD") or b""
        return Head(
            commit=commit.decode().strip(),
            changed_files=tuple(_parse_status(changes.decode("utf-8", "replace"))),
            pushed=bool(branches.strip()),
        )

    def load_release(self, stack: str, tag: str | None) -> Release:
        """Load the release that a tag names, or by default that of the commit checked out.

        A tag such as ``sha-abc1234`` selects the configuration of that commit, if the checkout has
        it. Any other tag takes the files of the working tree.

        Raises:
            ConfigurationError: This is not a git checkout, or git cannot read its files.
        """
        if tag:
            abbreviated = commit_in_tag(tag)
            commit = self._resolve(abbreviated) if abbreviated else None
        else:
            commit = self.head().commit
        files = self._committed_files(commit, stack) if commit else self._working_files(stack)
        return Release(tag or tag_for_commit(commit or ""), commit, dict(files))

    def commits_between(self, old: str, new: str) -> CommitRange | None:
        """Return the commits that differ between two releases.

        Args:
            old: A tag or commit.
            new: A tag or commit.

        Returns:
            None if the checkout does not have one of them.
        """
        first = self._resolve(commit_in_tag(old) or old)
        last = self._resolve(commit_in_tag(new) or new)
        if first is None or last is None:
            return None
        return CommitRange(self._log(f"{first}..{last}"), self._log(f"{last}..{first}"))

    def _log(self, commits: str) -> tuple[str, ...]:
        log = _git(self._root, "log", "--oneline", "--no-decorate", commits, "--")
        return tuple((log or b"").decode("utf-8", "replace").splitlines())

    def _resolve(self, name: str) -> str | None:
        commit = _git(
            self._root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        return commit.decode().strip() if commit else None

    def _committed_files(self, commit: str, stack: str) -> Iterator[tuple[str, bytes]]:
        listing = _git(
            self._root, "ls-tree", "-r", "-z", "--name-only", commit, "--", *shipped_paths(stack)
        )
        names = [name for name in (listing or b"").decode().split("\0") if name]
        if not names:
            return
        archive = _git(self._root, "archive", "--format=tar", commit, "--", *names)
        if archive is None:
            raise ConfigurationError(
                f"git cannot read the files of commit {commit[:7]}",
                hint=f"Run `git archive {commit[:7]}` to see why; the clone may be a partial one.",
            )
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content:
                    yield member.name, content.read()

    def _working_files(self, stack: str) -> Iterator[tuple[str, bytes]]:
        for shipped in shipped_paths(stack):
            path = self._root / shipped
            files = sorted(path.rglob("*")) if shipped.endswith("/") else [path]
            for file in files:
                if file.is_file():
                    yield file.relative_to(self._root).as_posix(), file.read_bytes()


def _parse_status(status: str) -> Iterator[str]:
    entries = iter(status.split("\0"))
    for entry in entries:
        if entry:
            yield entry[3:]
        # The former name of a renamed file follows it.
        if entry[:1] in ("R", "C"):
            next(entries, None)


def _git(directory: Path, *arguments: str) -> bytes | None:
    """Return git's output, or None if it fails or is not installed."""
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
