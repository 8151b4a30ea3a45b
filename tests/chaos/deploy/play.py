"""Plays one case in the lab, and says what came of it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry, parse_history
from tests.chaos.deploy import images
from tests.chaos.deploy.cases import Case
from tests.chaos.deploy.command import wait_until
from tests.chaos.deploy.faults import FAULTS, Fault
from tests.chaos.deploy.hosts import Host, Watch
from tests.chaos.deploy.registry import BrokenRegistry
from tests.chaos.deploy.scene import Scene
from tests.e2e.leaks import leaks_in, leaks_in_files

# By then, after the command has ended and the fault is over, some release must serve and the lock
# be free: the host's patience with a silent connection (45 s), the grace in which containers stop
# (35 s), and the time that they take to become healthy.
SERVES_WITHIN_S = 150.0
# Every so many of the deploys to a node bring real workers, the others light ones.
EVERY_REAL = 4
_COMMAND = {"core": ("deploy", "core", "backend"), "all": ("deploy", "all")}


@dataclass
class Ended:
    """What came of a case.

    Attributes:
        case: Which.
        struck: Whether the fault came before the deploy was over.
        code: The command's exit code; negative for a signal.
        serves: What serves afterwards: ``old``, ``new``, ``both`` (some services each) or
            ``neither``.
        lock_free_s: When the lock was free, after the command and the fault had ended (s).
        serving_s: The same for all services being well (s).
        gap_s: The longest time in which some service did not answer, of the whole case (s).
        outcomes: What the history says of the releases of this case.
        converged: Whether the next plain run came to the end that was wanted.
        problems: What must not be.
    """

    case: Case
    struck: bool = False
    code: int = 0
    serves: str = "neither"
    lock_free_s: float = 0.0
    serving_s: float = 0.0
    gap_s: float = 0.0
    outcomes: list[str] = field(default_factory=list)
    converged: bool = False
    problems: list[str] = field(default_factory=list)
    took_s: float = 0.0
    complaint: str = ""

    def __str__(self) -> str:
        struck = "" if self.struck else " (came too late)"
        said = "/".join(self.outcomes) or "nothing recorded"
        return (
            f"{self.case}{struck}: exit {self.code}, {said}, {self.serves} serves "
            f"after {self.serving_s:.0f} s, lock free after {self.lock_free_s:.0f} s, "
            f"gap {self.gap_s:.1f} s, "
            f"{'converged' if self.converged else 'DID NOT CONVERGE'}, {self.took_s:.0f} s in all"
        )


@dataclass(frozen=True)
class Ground:
    """What all cases share.

    Attributes:
        hosts: The hosts by key.
        env: The environment of a command that addresses the lab.
        fields: What the vault holds.
        registry: What can take the registry's place.
        directory: Where the files of cases are kept.
    """

    hosts: Mapping[str, Host]
    env: Mapping[str, str]
    fields: Mapping[str, str]
    registry: BrokenRegistry
    directory: Path

    @property
    def secrets(self) -> dict[str, str]:
        """What may stand nowhere."""
        return {name: text for name, text in self.fields.items() if name != "db_username"}


@dataclass
class _Before:
    """A host before the deploy."""

    host: Host
    tags: set[str]
    lines: int
    began: float = field(default_factory=time.time)


def play(case: Case, ground: Ground) -> Ended:
    """Deploys, breaks, looks, deploys again, and looks again."""
    began, fault = time.monotonic(), FAULTS[case.fault]
    ended = Ended(case)
    hosts = tuple(ground.hosts.values()) if case.target == "all" else (ground.hosts[case.target],)
    before = [_Before(host, host.tags(), len(host.history())) for host in hosts]
    watches = [Watch(host) for host in hosts]
    scene = _scene(case, ground, hosts, before)
    try:
        with scene.undo:
            _injure(case, fault, scene, ended)
        _look(scene, before, watches, ended)
        _judge(fault, scene, before, ended)
        _search(ground, scene, before, fault, ended)
        _converge(ground, scene, before, ended)
    finally:
        ended.gap_s = max(watch.stop() for watch in watches)
        for command in scene.commands:
            command.end()
    _search_output(ground, scene, ended)
    ended.took_s = time.monotonic() - began
    return ended


def _scene(case: Case, ground: Ground, hosts: Sequence[Host], before: Sequence[_Before]) -> Scene:
    dice = case.dice
    here = next(iter(sorted(before[0].tags)), "")
    with_real_workers = case.target not in ("B", "C") or case.number % EVERY_REAL == 0
    new = images.other_than(here, images.GOOD if with_real_workers else images.LIGHT)
    return Scene(
        arguments=_COMMAND.get(case.target, ("deploy", "workers", case.target)),
        tag=new,
        good_tag=new,
        env=dict(ground.env),
        hosts=tuple(hosts),
        victim=dice.choice(hosts),
        dice=dice,
        directory=Path(tempfile.mkdtemp(prefix=f"{case.number:03}-", dir=ground.directory)),
        registry=ground.registry,
        fields=ground.fields,
    )


def _injure(case: Case, fault: Fault, scene: Scene, ended: Ended) -> None:
    """The deploy, with its fault; whatever it was is over when this returns."""
    if fault.arrange:
        fault.arrange(scene)
        ended.struck = fault.strike is None
    scene.running = scene.start(scene.tag, "deploy", *scene.extra)
    if fault.strike and scene.running.reaches(case.step, scene.victim.name):
        time.sleep(case.into_s)
        if not scene.running.is_over:
            ended.struck = fault.strike(scene) is not False
    try:
        ended.code = scene.running.wait()
        for other in scene.others:
            other.wait()
    except subprocess.TimeoutExpired:
        ended.problems.append("the command did not end by itself")
    ended.complaint = scene.running.complaint


def _look(scene: Scene, before: Sequence[_Before], watches: Sequence[Watch], ended: Ended) -> None:
    """Waits until every host serves, and until its lock is free and nothing of ours runs."""
    began = time.monotonic()

    def settle(host: Host, watch: Watch) -> None:
        def calm() -> bool:
            if host.lock_is_free() and not host.ours():
                return True
            ended.lock_free_s = max(ended.lock_free_s, time.monotonic() - began)
            return False

        def well() -> bool:
            return all(watch.now.values()) and _is_well(host)

        if not wait_until(well, SERVES_WITHIN_S):
            ended.problems.append(f"{host.name}: neither release serves: {_state(host, watch)}")
        ended.serving_s = max(ended.serving_s, time.monotonic() - began)
        if not wait_until(calm, SERVES_WITHIN_S):
            left = ", ".join(" ".join(each.words)[:80] for each in host.ours())
            free = "free" if host.lock_is_free() else "not free"
            ended.problems.append(f"{host.name}: its lock is {free}, and there runs: {left}")

    threads = [
        threading.Thread(target=settle, args=(each.host, watch))
        for each, watch in zip(before, watches, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = {_serving(scene, each, watch) for each, watch in zip(before, watches, strict=True)}
    ended.serves = kinds.pop() if len(kinds) == 1 else "neither" if "neither" in kinds else "both"


def _is_well(host: Host) -> bool:
    found = {each["service"]: each for each in host.containers()}
    return set(found) == set(host.services) and all(
        each["status"] == "running" and each["health"] in ("", "healthy") for each in found.values()
    )


def _serving(scene: Scene, before: _Before, watch: Watch) -> str:
    tags = set(watch.now.values())
    if None in tags or not _is_well(before.host):
        return "neither"
    if tags == {scene.tag}:
        return "new"
    return "old" if tags <= before.tags else "both"


def _state(host: Host, watch: Watch) -> str:
    found = [f"{each['name']} {each['status']} {each['health']}" for each in host.containers()]
    return f"{watch.now}; {'; '.join(found)}"


# ----------------------------------------------------------------------------------- the history


def _judge(fault: Fault, scene: Scene, before: Sequence[_Before], ended: Ended) -> None:
    """Whether what the hosts remember is what has happened."""
    for each in before:
        lines = each.host.history()[each.lines :]
        entries = parse_history(each.host.history())
        ids = {json.loads(line)["id"] for line in lines if _is_json(line)}
        new = [entry for entry in entries if entry.id in ids]
        ended.outcomes += [f"{entry.outcome}" for entry in new]
        for complaint in _untrue(fault, scene, each, lines, new, ended):
            ended.problems.append(f"{each.host.name}: {complaint}")


def _untrue(
    fault: Fault,
    scene: Scene,
    before: _Before,
    lines: Sequence[str],
    entries: Sequence[HistoryEntry],
    ended: Ended,
) -> list[str]:
    found, tags = [], before.host.tags()
    begun = {entry.tag for entry in entries}
    if changed := tags - before.tags - begun:
        found.append(f"{changed} runs, and no history tells of it")
    last = entries[-1] if entries else None
    if last and last.outcome.is_good and tags != {last.tag}:
        found.append(f"the history says that {last.tag} runs, but it is {tags}")
    untold = fault.cuts_off and "could not be told" in scene.running.output
    if ended.code == 0 and not (scene.others or untold or (last and last.outcome.is_good)):
        found.append(f"the command ended well, and the history says {last and last.outcome}")
    if ended.code == 0 and not scene.others and tags != {scene.tag}:
        found.append(f"the command ended well, and {tags} run")
    cut = [entry.id for entry in entries if entry.outcome is DeployOutcome.CUT_OFF]
    if cut and not fault.cuts_off:
        found.append(f"{cut} is said to be cut off, and could have been told of")
    if not fault.cuts_off and not all(map(_is_json, lines)):
        found.append("a line of the history cannot be read")
    return found


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


# ------------------------------------------------------------------------------- what is left over


def _search(
    ground: Ground, scene: Scene, before: Sequence[_Before], fault: Fault, ended: Ended
) -> None:
    """Secrets in files of hosts and laptop, and what should have been tidied up here."""
    for each in before:
        root = each.host.root
        roots = [root / "tmp", root / each.host.workdir.lstrip("/"), root / "run", root / "dev/shm"]
        # Docker's own, and what the kernel makes of sockets and pipes.
        left_out = [str(root / "run" / name) for name in ("docker", "containerd")]
        ended.problems += leaks_in_files(roots, ground.secrets, leave_out=left_out)
    for command in (scene.running, *scene.others):
        ended.problems += leaks_in_files([command.directory], ground.secrets)
        left = command.left_over()
        if left and not (fault.kills and command is scene.running):
            ended.problems.append(f"left on this machine: {', '.join(left)}")
        if alive := command.ssh():
            ended.problems.append(f"{len(alive)} ssh processes are left on this machine")


def _search_output(ground: Ground, scene: Scene, ended: Ended) -> None:
    for log in sorted(scene.directory.glob("*.log")):
        ended.problems += [
            f"{name} in {log}" for name in leaks_in(log.read_bytes(), ground.secrets)
        ]
    told = "".join(command.output for command in (scene.running, *scene.others))
    ended.problems += [
        f"{name} in what the command told" for name in leaks_in(told, ground.secrets)
    ]
    if "Traceback" in told:
        ended.problems.append("the command ended with a traceback")
    (scene.directory / "told.jsonl").write_text(told)


def _converge(ground: Ground, scene: Scene, before: Sequence[_Before], ended: Ended) -> None:
    """The next plain run, of whose environment nothing is faked, brings what was wanted."""
    again = scene.start(scene.good_tag, "again", env=ground.env)
    try:
        code = again.wait()
    except subprocess.TimeoutExpired:
        code = -1
    again.end()
    (scene.directory / "again.jsonl").write_text(again.output)
    tags = {tag for each in before for tag in each.host.tags()}
    ended.converged = code == 0 and tags == {scene.good_tag}
    if not ended.converged:
        ended.problems.append(
            f"the next plain run ended with {code}, and {tags} runs: {again.complaint}"
        )
    for each in before:
        wait_until(lambda host=each.host: host.lock_is_free() and not host.ours(), 10)
        if not each.host.lock_is_free():
            ended.problems.append(f"{each.host.name}: its lock is not free in the end")
        left = each.host.root / each.host.workdir.lstrip("/") / ".ktrdr-staging"
        if ended.converged and left.exists():
            ended.problems.append(f"{each.host.name}: what was staged is still there")
