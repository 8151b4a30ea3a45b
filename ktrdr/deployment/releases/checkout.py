"""Local git checkout: the commit to deploy, and the files that belong to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.deployment.releases import git
from ktrdr.deployment.releases.release import (
    Release,
    commit_in_tag,
    shipped_paths,
    tag_for_commit,
)
from ktrdr.errors import ConfigurationError

# Remedy if the checkout does not determine the image.
TAG_HINT: Final = "Commit and push, wait for CI to build the image, or name one with --tag."
_LISTED_FILES: Final = 3

# A branch of a remote, unlike a pull request or its merge commit, which CI may fetch beside them.
_BRANCH: Final = re.compile(
    r"refs/remotes/(?!([^/]+/)?(pr|pull|merge-requests)/\d+(/(head|merge))?$)[^/]+/.+"
)


@dataclass(frozen=True, slots=True)
class Head:
    """Commit that is checked out.

    Attributes:
        commit: Full id.
        changed_files: Files that differ from the commit, or are not part of it.
        pushed: Whether a remote branch has the commit; None if a shallow clone cannot tell.
    """

    commit: str
    changed_files: tuple[str, ...]
    pushed: bool | None

    def warnings(self) -> tuple[str, ...]:
        """Return the reasons why the commit's image may not be the one to deploy, one for each."""
        warnings = []
        if self.changed_files:
            files = ", ".join(self.changed_files[:_LISTED_FILES])
            more = len(self.changed_files) - _LISTED_FILES
            suffix = f" and {more} more" if more > 0 else ""
            warnings.append(f"the checkout has uncommitted changes ({files}{suffix})")
        if self.pushed is False:
            warnings.append(
                f"commit {self.commit[:7]} is not on a remote branch, so CI has not built its image"
            )
        return tuple(warnings)

    def note(self) -> str:
        """Return what cannot be known about the commit's image, or an empty string."""
        if self.pushed is not None:
            return ""
        return (
            f"this shallow clone cannot show whether commit {self.commit[:7]} is on a remote "
            "branch (`git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'` "
            "completes it)"
        )


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
    """Directory with the project's files, usually a git checkout.

    Attributes:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def find(cls, directory: Path) -> Checkout:
        """Return the checkout that contains a directory, or the directory itself if none does."""
        try:
            top = git.run(directory, "rev-parse", "--show-toplevel")
        except ConfigurationError:
            return cls(git.find_repository(directory) or directory)
        return cls(Path(top.decode().rstrip("\n")) if top else directory)

    def github_owner(self) -> str | None:
        """Return the GitHub owner of the remote ``origin``, under which CI publishes images."""
        url = b""
        with suppress(ConfigurationError):
            url = self._git("remote", "get-url", "origin")
        match = re.search(r"github\.com[:/]+([A-Za-z0-9-]+)/", url.decode("utf-8", "replace"))
        return match[1].lower() if match else None

    def recent_commits(self, count: int) -> list[tuple[str, str]]:
        """Return the last commits, newest first, each with the first line of its message."""
        lines = self._log(f"--max-count={count}", "--no-abbrev-commit", "HEAD")
        pairs = (line.partition(" ") for line in lines)
        return [(commit, subject) for commit, _, subject in pairs]

    def head(self) -> Head:
        """Return the commit that is checked out.

        Raises:
            ConfigurationError: This is not a git checkout, it has no commit, or git refuses it.
        """
        commit = self._resolve("HEAD")
        if not commit:
            raise self._no_commit_error()
        options = ("--porcelain", "-z", "--untracked-files=normal", "--no-renames")
        changes = self._git("status", *options).decode("utf-8", "replace").split("\0")
        return Head(
            commit=commit,
            changed_files=tuple(entry[3:] for entry in changes if entry),
            pushed=self._is_pushed(),
        )

    def load_release(self, stack: str, tag: str | None) -> Release:
        """Load the release that a tag names, or by default that of the commit checked out.

        A tag such as ``sha-abc1234`` selects the configuration of that commit, if the checkout has
        it. Any other tag takes the files of the working tree.

        Raises:
            ConfigurationError: This is not a git checkout, or git cannot read its files.
        """
        name = commit_in_tag(tag) if tag else "HEAD"
        if commit := self._resolve(name) if name else None:
            files = dict(self._committed_files(commit, stack))
            return Release(tag or tag_for_commit(commit), commit, files)
        if tag is None:
            raise self._no_commit_error()
        note = f"{tag} names no commit of this checkout, so the working tree will be deployed"
        return Release(tag, None, dict(self._working_files(stack)), note)

    def commits_between(self, old: str, new: str) -> CommitRange | None:
        """Return the commits that differ between two releases.

        Args:
            old: A tag or commit.
            new: A tag or commit.

        Returns:
            None if the checkout does not have one of them, or not the history between them.
        """
        first = self._resolve(commit_in_tag(old) or old)
        last = self._resolve(commit_in_tag(new) or new)
        if not (first and last and self._git("merge-base", first, last)):
            return None
        return CommitRange(self._log(f"{first}..{last}"), self._log(f"{last}..{first}"))

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return git.run(self.root, *arguments, stdin=stdin)

    def _log(self, *arguments: str) -> tuple[str, ...]:
        # Unlike `git log`, this command heeds no setting for colours, signatures or formats.
        log = self._git("rev-list", "--oneline", "--abbrev=7", "--encoding=UTF-8", *arguments)
        return tuple(log.decode("utf-8", "replace").splitlines())

    def _resolve(self, name: str) -> str | None:
        commit = self._git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
        return commit.decode().strip() or None

    def _no_commit_error(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.root} is not a git checkout or has no commit, so no image can be selected",
            hint="Run ktrdr in a checkout of the project, or name an image with --tag.",
        )

    def _is_pushed(self) -> bool | None:
        listing = self._git(
            "for-each-ref", "--contains=HEAD", "--format=%(refname)", "refs/remotes"
        )
        refs = listing.decode("utf-8", "replace").splitlines()
        if any(map(_BRANCH.fullmatch, refs)):
            return True
        state = self._git("rev-parse", "--is-shallow-repository", "--symbolic-full-name", "HEAD")
        # A tag, or a commit, that was fetched alone. A pull request's commit has a ref.
        return None if state == b"true\nHEAD\n" and not refs else False

    def _committed_files(self, commit: str, stack: str) -> Iterator[tuple[str, bytes]]:
        listing = self._git("ls-tree", "-r", "-z", commit, "--", *shipped_paths(stack)).decode()
        # Files, but neither links nor submodules.
        blobs = re.findall(r"100\d+ blob (\w+)\t([^\0]+)\0", listing)
        # `git archive` would convert line ends, and more, as the settings of this machine say.
        rest = self._git("cat-file", "--batch", stdin="\n".join(blob for blob, _ in blobs).encode())
        for _, path in blobs:
            header, _, rest = rest.partition(b"\n")
            size = header.rpartition(b" ")[2]
            if not size.isdigit():
                raise ConfigurationError(
                    f"commit {commit[:7]} has no readable {path}", hint="Run `git fsck` to see why."
                )
            yield path, rest[: int(size)]
            rest = rest[int(size) + 1 :]

    def _working_files(self, stack: str) -> Iterator[tuple[str, bytes]]:
        for shipped in shipped_paths(stack):
            path = self.root / shipped
            files = sorted(path.rglob("*")) if shipped.endswith("/") else [path]
            for file in files:
                if file.is_file():
                    content = file.read_bytes()
                    if b"\0" not in content:
                        # As git stores text, if a checkout on Windows has other line ends.
                        content = content.replace(b"\r\n", b"\n")
                    yield file.relative_to(self.root).as_posix(), content
