"""The lab made ready for cases, and the lanes in which they are played."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import demo, lifecycle, registries, vault
from lab.config import ITEM, VAULT
from lab.progress import Progress
from tests.chaos.deploy import account, images
from tests.chaos.deploy.cases import Case
from tests.chaos.deploy.command import Running
from tests.chaos.deploy.hosts import Host, all_hosts
from tests.chaos.deploy.play import Ended, Ground, play
from tests.chaos.deploy.registry import BrokenRegistry


@contextmanager
def ground(*, raise_lab: bool = True) -> Iterator[Ground]:
    """The lab with a whole stack of the first good version on it.

    What cases leave behind is kept where one of them went wrong.
    """
    if raise_lab:
        lifecycle.up(Progress())
    registries.set_token(vault.read_field("ghcr_token"))
    images.push_all()
    fields = json.loads(vault.FILE.read_text())["vaults"][VAULT][ITEM]
    directory = Path(tempfile.mkdtemp(prefix="ktrdr-chaos-deploy-"))
    registry = BrokenRegistry()
    try:
        found = Ground(all_hosts(), _environment(), fields, registry, directory)
        make_whole(found)
        yield found
    finally:
        registry.close()
    if not any(directory.rglob("problems")):
        shutil.rmtree(directory)


def run(
    cases: Iterable[Case],
    found: Ground,
    say: Callable[[str], None],
    into: Path | None = None,
) -> list[Ended]:
    """Plays cases: those of the worker nodes side by side, and then those that the core is in.

    A node's workers are not well without the core: what breaks it would break their deploys, too.

    Args:
        cases: Which.
        found: Where.
        say: Is told what came of each.
        into: The same goes into this file.
    """

    def one(case: Case) -> Ended:
        ended = _one(case, found, say)
        if into:
            account.note(ended, into)
        return ended

    def lane(key: str) -> list[Ended]:
        return [one(case) for case in cases if case.target == key]

    cases = list(cases)
    with ThreadPoolExecutor(2) as pool:
        ended = [each for key in pool.map(lane, ("B", "C")) for each in key]
    ended += [one(case) for case in cases if case.target not in ("B", "C")]
    return sorted(ended, key=lambda each: each.case.number)


def _one(case: Case, found: Ground, say: Callable[[str], None]) -> Ended:
    try:
        ended = play(case, found)
    except Exception as exc:
        ended = Ended(case, struck=True, problems=[f"the case itself failed: {exc!r}"])
    say(str(ended))
    if ended.complaint:
        say(f"    {ended.complaint}")
    for problem in ended.problems:
        say(f"    !! {problem}")
    if ended.problems:
        directory = next(iter(found.directory.glob(f"{case.number:03}-*")), found.directory)
        (directory / "problems").write_text("\n".join(ended.problems))
        say(f"    see {directory}")
    return ended


def make_whole(found: Ground) -> None:
    """Deploys a good version to every host that runs another."""
    for host in found.hosts.values():
        _make_whole(host, found)


def _make_whole(host: Host, found: Ground) -> None:
    """A deploy of one of the good versions, unless that is what runs."""
    if host.tags() & {*images.GOOD, *images.LIGHT} and len(host.tags()) == 1:
        tag = host.tags().pop()
    else:
        tag = images.GOOD[0]
    what = ("core", "all") if host.node.key == "core" else ("workers", host.node.key)
    directory = Path(tempfile.mkdtemp(prefix="first-", dir=found.directory))
    command = Running(("deploy", *what, "--tag", tag, "--yes"), found.env, directory, "deploy")
    if command.wait():
        raise AssertionError(f"the lab cannot be made whole: {command.complaint}")


def _environment() -> dict[str, str]:
    env = demo.lab_environment()
    for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    return env
