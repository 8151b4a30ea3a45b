"""Preparation of the lab, and the run of all cases."""

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
from tests.chaos.deploy import images, results
from tests.chaos.deploy.case_run import CaseResult, ChaosEnvironment, run_case
from tests.chaos.deploy.cases import Case
from tests.chaos.deploy.command import DeployCommand
from tests.chaos.deploy.hosts import Host, all_hosts
from tests.chaos.deploy.registry import BrokenRegistry


@contextmanager
def prepared_lab(*, start_lab: bool = True) -> Iterator[ChaosEnvironment]:
    """Provide the lab with a healthy stack.

    The files of cases are kept if one of them had a problem.
    """
    if start_lab:
        lifecycle.up(Progress())
    registries.set_token(vault.read_field("ghcr_token"))
    images.push_all()
    fields = json.loads(vault.FILE.read_text())["vaults"][VAULT][ITEM]
    directory = Path(tempfile.mkdtemp(prefix="ktrdr-chaos-deploy-"))
    registry = BrokenRegistry()
    try:
        env = ChaosEnvironment(all_hosts(), _lab_environment(), fields, registry, directory)
        deploy_good_release(env)
        yield env
    finally:
        registry.close()
    if not any(directory.rglob("problems")):
        shutil.rmtree(directory)


def run_cases(
    cases: Iterable[Case],
    env: ChaosEnvironment,
    print_line: Callable[[str], None],
    results_file: Path | None = None,
) -> list[CaseResult]:
    """Run cases: those of both worker nodes in parallel, then those that include the core.

    A node's workers are unhealthy without the core, so a broken core would break their deploys too.

    Args:
        cases: Cases to run.
        env: Environment of the cases.
        print_line: Function that prints the result of each case.
        results_file: File to which each result is appended.
    """

    def run(case: Case) -> CaseResult:
        result = _run_and_print(case, env, print_line)
        if results_file:
            results.append_result(result, results_file)
        return result

    def run_node(key: str) -> list[CaseResult]:
        return [run(case) for case in cases if case.target == key]

    cases = list(cases)
    with ThreadPoolExecutor(2) as pool:
        all_results = [result for node in pool.map(run_node, ("B", "C")) for result in node]
    all_results += [run(case) for case in cases if case.target not in ("B", "C")]
    return sorted(all_results, key=lambda result: result.case.number)


def _run_and_print(
    case: Case, env: ChaosEnvironment, print_line: Callable[[str], None]
) -> CaseResult:
    try:
        result = run_case(case, env)
    except Exception as exc:
        result = CaseResult(case, injected=True, problems=[f"the case itself failed: {exc!r}"])
    print_line(str(result))
    if result.error_line:
        print_line(f"    {result.error_line}")
    for problem in result.problems:
        print_line(f"    !! {problem}")
    if result.problems:
        directory = next(iter(env.directory.glob(f"{case.number:03}-*")), env.directory)
        (directory / "problems").write_text("\n".join(result.problems))
        print_line(f"    see {directory}")
    return result


def deploy_good_release(env: ChaosEnvironment) -> None:
    """Deploy a good version to every host, by default the one that runs there."""
    for host in env.hosts.values():
        _deploy_good_release(host, env)


def _deploy_good_release(host: Host, env: ChaosEnvironment) -> None:
    if host.tags() & {*images.GOOD, *images.LIGHT} and len(host.tags()) == 1:
        tag = host.tags().pop()
    else:
        tag = images.GOOD[0]
    target = ("core", "all") if host.node.key == "core" else ("workers", host.node.key)
    directory = Path(tempfile.mkdtemp(prefix="first-", dir=env.directory))
    command = DeployCommand(
        ("deploy", *target, "--tag", tag, "--yes"), env.env, directory, "deploy"
    )
    if command.wait():
        raise AssertionError(f"the first deploy failed: {command.error_line}")


def _lab_environment() -> dict[str, str]:
    env = demo.lab_environment()
    for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    return env
