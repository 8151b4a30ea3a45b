"""Run of one case: deploy, inject the fault, and verify the hosts afterwards."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry, parse_history
from tests.chaos.deploy import images
from tests.chaos.deploy.cases import Case
from tests.chaos.deploy.command import wait_until
from tests.chaos.deploy.context import CaseContext
from tests.chaos.deploy.faults import FAULTS, Fault
from tests.chaos.deploy.hosts import Host, VersionMonitor
from tests.chaos.deploy.registry import BrokenRegistry
from tests.chaos.deploy.settling import HostSettling, is_healthy
from tests.e2e.leaks import leaks_in, leaks_in_files

# Every fourth deploy to a node uses real workers, the others light ones.
REAL_WORKERS_EVERY = 4
_SERVES = {
    **{release: f"{release} serves" for release in ("old", "new", "both", "neither")},
    "stopped": "stopped until the next deploy",
}
_ARGUMENTS = {"core": ("deploy", "core", "backend"), "all": ("deploy", "all")}


@dataclass
class CaseResult:
    """Result of a case.

    Attributes:
        case: The case.
        injected: True if the fault was injected before the deploy ended.
        code: Exit code of the command; negative for a signal.
        serves: Release that serves afterwards: ``old``, ``new``, ``both`` (mixed services),
            ``neither``, or ``stopped`` if the next deploy has to start it, as after a reboot.
        lock_free_s: Time until the lock was free, after the end of command and fault (s).
        serving_s: Time until all services were healthy (s).
        gap_s: Longest time without an answer of a service, during the whole case (s).
        outcomes: Outcomes in the history for the releases of this case.
        converged: True if the next deploy without a fault reached the wanted state.
        problems: Violations of guarantees.
        took_s: Duration of the case (s).
        error_line: Error message of the command.
    """

    case: Case
    injected: bool = False
    code: int = 0
    serves: str = "neither"
    lock_free_s: float = 0.0
    serving_s: float = 0.0
    gap_s: float = 0.0
    outcomes: list[str] = field(default_factory=list)
    converged: bool = False
    problems: list[str] = field(default_factory=list)
    took_s: float = 0.0
    error_line: str = ""

    def __str__(self) -> str:
        late = "" if self.injected else " (came too late)"
        outcomes = "/".join(self.outcomes) or "nothing recorded"
        return (
            f"{self.case}{late}: exit {self.code}, {outcomes}, {_SERVES[self.serves]} "
            f"after {self.serving_s:.0f} s, lock free after {self.lock_free_s:.0f} s, "
            f"gap {self.gap_s:.1f} s, "
            f"{'converged' if self.converged else 'DID NOT CONVERGE'}, {self.took_s:.0f} s in all"
        )


@dataclass(frozen=True)
class ChaosEnvironment:
    """Environment that all cases share.

    Attributes:
        hosts: Hosts by key.
        env: Environment variables of a command that addresses the lab.
        fields: Fields of the vault.
        registry: Replacement for a registry that fails.
        directory: Directory for the files of cases.
    """

    hosts: Mapping[str, Host]
    env: Mapping[str, str]
    fields: Mapping[str, str]
    registry: BrokenRegistry
    directory: Path

    @property
    def secrets(self) -> dict[str, str]:
        """Values that may appear nowhere."""
        return {name: text for name, text in self.fields.items() if name != "db_username"}


@dataclass
class _HostBefore:
    """State of a host before the deploy."""

    host: Host
    tags: set[str]
    history_lines: int


def run_case(case: Case, env: ChaosEnvironment) -> CaseResult:
    """Deploy with the fault, verify the hosts, deploy again without a fault, and verify again."""
    start, fault = time.monotonic(), FAULTS[case.fault]
    result = CaseResult(case)
    hosts = tuple(env.hosts.values()) if case.target == "all" else (env.hosts[case.target],)
    before = [_HostBefore(host, host.tags(), len(host.history())) for host in hosts]
    monitors = [VersionMonitor(host) for host in hosts]
    context = _make_context(case, env, hosts, before)
    try:
        with context.undo:
            _deploy_with_fault(case, fault, context, result)
        _wait_until_stable(fault, context, before, monitors, result)
        _check_history(fault, context, before, result)
        _check_files(env, context, before, fault, result)
        _deploy_again(env, context, before, result)
    finally:
        result.gap_s = max(monitor.stop() for monitor in monitors)
        for command in context.commands:
            command.kill()
    _check_output(env, context, result)
    result.took_s = time.monotonic() - start
    return result


def _make_context(
    case: Case, env: ChaosEnvironment, hosts: Sequence[Host], before: Sequence[_HostBefore]
) -> CaseContext:
    dice = case.dice
    current = next(iter(sorted(before[0].tags)), "")
    real_workers = (
        case.target not in ("B", "C")
        or case.number % REAL_WORKERS_EVERY == 0
        or FAULTS[case.fault].real_workers
    )
    tag = images.other_tag(current, images.GOOD if real_workers else images.LIGHT)
    return CaseContext(
        arguments=_ARGUMENTS.get(case.target, ("deploy", "workers", case.target)),
        tag=tag,
        good_tag=tag,
        env=dict(env.env),
        hosts=tuple(hosts),
        victim=dice.choice(hosts),
        dice=dice,
        directory=Path(tempfile.mkdtemp(prefix=f"{case.number:03}-", dir=env.directory)),
        registry=env.registry,
        fields=env.fields,
    )


def _deploy_with_fault(case: Case, fault: Fault, context: CaseContext, result: CaseResult) -> None:
    """Deploy and inject the fault; wait until both are over."""
    if fault.prepare:
        fault.prepare(context)
        result.injected = fault.inject is None
    context.command = context.start(context.tag, "deploy", *context.extra)
    if fault.inject and context.command.reaches(case.step, context.victim.name):
        time.sleep(case.into_s)
        if not context.command.is_over:
            result.injected = fault.inject(context) is not False
    try:
        result.code = context.command.wait()
        for other in context.others:
            other.wait()
    except subprocess.TimeoutExpired:
        result.problems.append("the command did not end by itself")
    result.error_line = context.command.error_line


def _wait_until_stable(
    fault: Fault,
    context: CaseContext,
    before: Sequence[_HostBefore],
    monitors: Sequence[VersionMonitor],
    result: CaseResult,
) -> None:
    """Wait until every host serves, its lock is free, and no process of a deploy runs."""
    settling = [
        HostSettling(monitor, may_stay_stopped=_may_stay_stopped(fault, context, monitor.host))
        for monitor in monitors
    ]
    with ThreadPoolExecutor(len(settling)) as pool:
        list(pool.map(HostSettling.wait, settling))
    for each in settling:
        result.problems += each.problems
    result.serving_s = max(each.serving_s for each in settling)
    result.lock_free_s = max(each.lock_free_s for each in settling)
    kinds = {
        "stopped" if each.is_stopped else _serving_release(context, state, each.monitor)
        for state, each in zip(before, settling, strict=True)
    }
    result.serves = kinds.pop() if len(kinds) == 1 else "neither" if "neither" in kinds else "both"


def _may_stay_stopped(fault: Fault, context: CaseContext, host: Host) -> bool:
    """Return True if the fault hit the host while Compose was changing its services."""
    return (
        fault.may_stay_stopped
        and host is context.victim
        and context.command.last_step(host.name) == "apply"
    )


def _serving_release(context: CaseContext, before: _HostBefore, monitor: VersionMonitor) -> str:
    tags = set(monitor.versions.values())
    if None in tags or not is_healthy(before.host):
        return "neither"
    if tags == {context.tag}:
        return "new"
    return "old" if tags <= before.tags else "both"


# ----------------------------------------------------------------------------------- the history


def _check_history(
    fault: Fault, context: CaseContext, before: Sequence[_HostBefore], result: CaseResult
) -> None:
    """Verify that the history of each host says what has happened."""
    for state in before:
        lines = state.host.history()[state.history_lines :]
        entries = parse_history(state.host.history())
        ids = {json.loads(line)["id"] for line in lines if _is_json(line)}
        new = [entry for entry in entries if entry.id in ids]
        result.outcomes += [f"{entry.outcome}" for entry in new]
        for problem in _history_problems(fault, context, state, lines, new, result):
            result.problems.append(f"{state.host.name}: {problem}")


def _history_problems(
    fault: Fault,
    context: CaseContext,
    before: _HostBefore,
    lines: Sequence[str],
    entries: Sequence[HistoryEntry],
    result: CaseResult,
) -> list[str]:
    problems, tags = [], before.host.tags()
    recorded = {entry.tag for entry in entries}
    if unrecorded := tags - before.tags - recorded:
        problems.append(f"{unrecorded} runs, and no history contains it")
    last = entries[-1] if entries else None
    if last and last.outcome.is_good and tags != {last.tag}:
        problems.append(f"the history says that {last.tag} runs, but {tags} runs")
    not_recorded = fault.cuts_off and "could not be recorded" in context.command.output
    if result.code == 0 and not (context.others or not_recorded or (last and last.outcome.is_good)):
        problems.append(f"the command succeeded, and the history says {last and last.outcome}")
    if result.code == 0 and not context.others and tags != {context.tag}:
        problems.append(f"the command succeeded, and {tags} runs")
    cut_off = [entry.id for entry in entries if entry.outcome is DeployOutcome.CUT_OFF]
    if cut_off and not fault.cuts_off:
        problems.append(f"{cut_off} is recorded as cut off, but its end could have been recorded")
    if not fault.cuts_off and not all(map(_is_json, lines)):
        problems.append("a line of the history cannot be read")
    return problems


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


# ------------------------------------------------------------------------------ files and output


def _check_files(
    env: ChaosEnvironment,
    context: CaseContext,
    before: Sequence[_HostBefore],
    fault: Fault,
    result: CaseResult,
) -> None:
    """Search files of hosts and laptop for secrets, and the laptop for remains of the command."""
    for state in before:
        root = state.host.root
        workdir = root / state.host.workdir.lstrip("/")
        roots = [root / "tmp", workdir, root / "run", root / "dev/shm"]
        # Files of Docker, which hold the environment of containers, and sockets and pipes.
        left_out = [
            *(str(root / "run" / name) for name in ("docker", "containerd")),
            str(root / "tmp/runc-process"),
        ]
        result.problems += leaks_in_files(roots, env.secrets, leave_out=left_out)
    for command in (context.command, *context.others):
        result.problems += leaks_in_files([command.directory], env.secrets)
        files = command.remaining_files()
        if files and not (fault.kills and command is context.command):
            result.problems.append(f"left on this machine: {', '.join(files)}")
        if processes := command.ssh_processes():
            result.problems.append(f"{len(processes)} ssh processes are left on this machine")


def _check_output(env: ChaosEnvironment, context: CaseContext, result: CaseResult) -> None:
    for log in sorted(context.directory.glob("*.log")):
        result.problems += [f"{name} in {log}" for name in leaks_in(log.read_bytes(), env.secrets)]
    output = "".join(command.output for command in (context.command, *context.others))
    result.problems += [
        f"{name} in the output of the command" for name in leaks_in(output, env.secrets)
    ]
    if "Traceback" in output:
        result.problems.append("the command ended with a traceback")
    (context.directory / "output.jsonl").write_text(output)


def _deploy_again(
    env: ChaosEnvironment, context: CaseContext, before: Sequence[_HostBefore], result: CaseResult
) -> None:
    """Deploy without a fault, and verify that the wanted state is reached."""
    again = context.start(context.good_tag, "again", env=env.env)
    try:
        code = again.wait()
    except subprocess.TimeoutExpired:
        code = -1
    again.kill()
    (context.directory / "again.jsonl").write_text(again.output)
    tags = {tag for state in before for tag in state.host.tags()}
    result.converged = code == 0 and tags == {context.good_tag}
    if not result.converged:
        result.problems.append(
            f"the next deploy exited with {code}, and {tags} runs: {again.error_line}"
        )
    for state in before:
        host = state.host
        wait_until(lambda host=host: host.lock_is_free() and not host.deploy_processes(), 10)
        if not host.lock_is_free():
            result.problems.append(f"{host.name}: its lock is not free at the end")
        staged = host.root / host.workdir.lstrip("/") / ".ktrdr-staging"
        if result.converged and staged.exists():
            result.problems.append(f"{host.name}: staged files are left")
