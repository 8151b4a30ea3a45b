"""Checks of everything that a deploy depends on; they change nothing."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import preflight, step_errors
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import parse_lock_state
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.hosts.problems import CheckResult, Problem, all_problems
from ktrdr.deployment.hosts.registry import RegistryAnswer, parse_registry_answers
from ktrdr.deployment.product import REGISTRY_LOGIN, Product, SecretSource
from ktrdr.deployment.releases.checkout import TAG_HINT, Checkout
from ktrdr.deployment.releases.release import required_variables, tag_for_commit
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.ssh import diagnosis
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.deployment.ssh.session import program_output
from ktrdr.errors import (
    ConfigurationError,
    HostSkipped,
    HostUnreachable,
    ImageError,
    KtrdrError,
)
from ktrdr.secret import Scrubber, Secret

_TIMEOUT_S: Final = 30.0
_REFUSED: Final = re.compile("refused", re.IGNORECASE)
_TIMED_OUT: Final = 124


@dataclass(frozen=True, slots=True)
class CheckedSubject:
    """Results of the checks of one subject.

    Attributes:
        name: ``laptop``, ``vault``, ``registry``, or the name of a host.
        description: Its address, or other details that identify it.
        results: Results of its checks.
    """

    name: str
    description: str
    results: tuple[CheckResult, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(all_problems(self.results))


def exit_code(report: Sequence[CheckedSubject]) -> int:
    """Return 0, or the exit code of a deploy that meets the problems, which is the lowest one."""
    return min((each.exit_code for subject in report for each in subject.problems), default=0)


def check_programs(ssh: str) -> Iterator[CheckResult]:
    """Check OpenSSH and git on this machine, and show the version of Python.

    A git that is missing or refuses the checkout is a problem of the checkout.

    Args:
        ssh: Name or path of the ssh program.
    """
    yield CheckResult("Python", platform.python_version())
    ssh_version = _version(ssh, "-V")
    missing = Problem.from_error(diagnosis.ssh_missing_error(ssh))
    yield CheckResult("ssh", ssh_version, () if ssh_version else (missing,))
    git_version = _version("git", "--version")
    if git_version[:1].isdigit():
        yield CheckResult("git", git_version)


def check_checkout(checkout: Checkout, tag: str | None) -> CheckResult:
    """Check whether the checkout determines the image and the configuration to deploy."""
    if tag is not None:
        return CheckResult("image", tag)
    try:
        head = checkout.head()
    except KtrdrError as error:
        return CheckResult("checkout", problems=(Problem.from_error(error),))
    problems = [Problem(each, TAG_HINT, ConfigurationError.exit_code) for each in head.warnings()]
    detail = f"commit {head.commit[:7]}, pushed and unchanged"
    return CheckResult("checkout", detail, tuple(problems), head.note())


def check_plan(make_plan: Callable[[], Plan]) -> tuple[Plan | None, CheckResult]:
    """Make a plan, and check that its release exists and all its settings have values."""
    try:
        plan = make_plan()
        problems = tuple(_missing_settings(plan))
    except KtrdrError as error:
        return None, CheckResult("configuration", problems=(Problem.from_error(error),))
    name = f"configuration of {plan.host.stack}"
    return plan, CheckResult(name, f"from {plan.release.source}", problems, plan.release.note)


@dataclass(slots=True)
class Checker:
    """Checks of the vault, the hosts and the registry.

    Attributes:
        product: Knowledge of the deployed software.
        plans: Plans of the hosts for which a plan could be made.
        source: The vault.
        source_name: Description of the vault for people.
        transport: Connections to the hosts.
        scrubber: Removes secrets from the output of hosts; it learns them from the vault.
        clock: The time.
    """

    product: Product
    plans: Mapping[Host, Plan]
    source: SecretSource
    source_name: str
    transport: Transport
    scrubber: Scrubber
    clock: Clock = field(default_factory=Clock)
    _answers: dict[str, dict[str, RegistryAnswer]] = field(default_factory=dict)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    def check_all(self) -> list[CheckedSubject]:
        """Check vault, registry and hosts; the vault is read while the hosts are checked."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            vault = pool.submit(self._check_vault)
            hosts = map_hosts(
                lambda host: self._check_host(host, vault), list(self.plans), self.transport
            )
            subject, login = vault.result()
        return [subject, self._check_registry(can_log_in=login is not None), *hosts]

    def _check_vault(self) -> tuple[CheckedSubject, Secret | None]:
        """Check the vault; return the login at the registry as well, if it has one."""
        try:
            results, secrets = self.product.check_secrets(self.source, list(self.plans.values()))
        except KtrdrError as error:
            result = CheckResult("item", problems=(Problem.from_error(error),))
            return CheckedSubject("vault", self.source_name, (result,)), None
        login = self.product.registry_login(secrets)
        # Hosts receive the login only.
        self.scrubber.learn(*secrets.values(), *([login] if login else []))
        return CheckedSubject("vault", self.source_name, tuple(results)), login

    def _check_host(
        self, host: Host, vault: Future[tuple[CheckedSubject, Secret | None]]
    ) -> CheckedSubject:
        plan = self.plans[host]
        try:
            facts = self._fetch_facts(plan)
            now = self.clock.now()
            results = list(preflight.check_host(plan, facts, now=now, names=self._names))
            results += self.product.check_running(plan, self.transport)
            # What follows needs Docker and Compose, which are checked first.
            is_usable = not any(all_problems(results[:2]))
            results += [self._check_start(plan)] if is_usable else []
        except KtrdrError as error:
            problem = Problem.from_error(error)
            if plan.may_be_skipped and isinstance(error, HostUnreachable) and error.is_off:
                problem = problem._replace(exit_code=HostSkipped.exit_code)
            unreachable = CheckResult("SSH", problems=(problem,))
            return CheckedSubject(host.name, host.address, (unreachable,))
        results += [*_check_lock(facts), *_check_connections(facts)]
        if is_usable:
            self._query_registry(plan, vault.result()[1])
        return CheckedSubject(host.name, host.address, (CheckResult("SSH"), *results))

    def _fetch_facts(self, plan: Plan) -> dict[str, str]:
        connections = self.product.required_connections(plan, self.plans.values())
        arguments = (
            *plan.check_options(),
            *("--ports", "yes", "--recovery", plan.host.project),
            *("--copy", plan.history_copy),
            *repeat("--reach", (f"{address}:{port}" for address, port in connections)),
        )
        result = self._run(plan, Script("scripts/check.sh", arguments))
        if result.exit_code:
            raise step_errors.query_error(plan, "readiness", result)
        return preflight.parse_facts(result.stdout)

    def _check_start(self, plan: Plan) -> CheckResult:
        result = self._run(plan, plan.start_script)
        if result.exit_code:
            problem = Problem.from_error(step_errors.start_error(plan, result))
            return CheckResult("containers", problems=(problem,))
        note = "no container was started, because the host has no image yet"
        return CheckResult("containers", "start", note=note if "no image" in result.stdout else "")

    def _query_registry(self, plan: Plan, login: Secret | None) -> None:
        """Ask for the release's images, and for others that the host does not have."""
        images = sorted({service.image for service in plan.expected})
        own = [image for image in images if image.endswith(f":{plan.release.tag}")]
        others = [image for image in images if image not in own]
        script = Script(
            "scripts/ask_registry.sh",
            (*repeat("--ask", own if login else ()), *repeat("--ask-if-missing", others)),
            secrets=(REGISTRY_LOGIN,) if login else (),
        )
        try:
            result = self._run(plan, script, {REGISTRY_LOGIN: login} if login else {})
        except KtrdrError:
            # The answers of other hosts suffice. Without any, a note says so.
            return
        self._answers[plan.host.address] = parse_registry_answers(result.stdout.splitlines())

    def _check_registry(self, *, can_log_in: bool) -> CheckedSubject:
        """Combine the answers that all hosts got from the registry, without repetitions."""
        results = []
        if not can_log_in:
            note = "login not checked, because the vault has no usable token for it"
            results.append(CheckResult("login", note=note))
        elif not self._answers:
            note = "not checked, because no host can reach it"
            results.append(CheckResult("login", note=note))
        for image in sorted({image for answers in self._answers.values() for image in answers}):
            problems = [
                problem
                for plan in self.plans.values()
                if (problem := self._registry_problem(plan, image)) is not None
            ]
            answer = next(a[image] for a in self._answers.values() if image in a)
            built = f", built from {answer.commits[0][:7]}" if answer.commits else ""
            detail = "" if problems else f"{answer.text.removeprefix('sha256:')[:12]}{built}"
            results.append(
                CheckResult(image.rpartition("/")[2], detail, tuple(dict.fromkeys(problems)))
            )
        return CheckedSubject("registry", self.product.registry, tuple(results))

    def _registry_problem(self, plan: Plan, image: str) -> Problem | None:
        answer = self._answers.get(plan.host.address, {}).get(image)
        if answer is None:
            return None
        if answer.code == 0:
            return _commit_problem(plan, image, answer)
        # A pull would fail with the same output.
        pull = RemoteResult(answer.code, "", f"Image {image} Error\n{answer.text}", 0.0)
        return Problem.from_error(step_errors.fetch_error(plan, "pull", pull))

    def _run(
        self, plan: Plan, script: Script, values: Mapping[str, Secret] | None = None
    ) -> RemoteResult:
        rendered = render(script, values or {})
        return self.transport.run(plan.host.address, rendered, timeout_s=_TIMEOUT_S)


def _commit_problem(plan: Plan, image: str, answer: RegistryAnswer) -> Problem | None:
    """Return the problem of an image that was built from another commit than its tag names."""
    tag = plan.release.tag
    other = next((each for each in answer.commits if tag_for_commit(each) != tag), None)
    if other is None or not (plan.release.is_immutable and image.endswith(f":{tag}")):
        return None
    return Problem(
        f"the image {image} was built from commit {other[:7]}, as the record of its build says",
        "Find out who pushed it, and let CI build the commit again, or select another with --tag.",
        ImageError.exit_code,
    )


def _version(*command: str) -> str:
    """Return the version that ssh or git prints, or an empty string without the program."""
    text = program_output(*command).partition("\n")[0]
    match = re.match(r"(?:(OpenSSH)_|git version )([\w.]+)", text)
    return " ".join(filter(None, match.groups())) if match else text


def _missing_settings(plan: Plan) -> Iterator[Problem]:
    release, stack = plan.release, plan.host.stack
    known = {
        *release.settings(stack),
        *(name for name, _ in plan.config.settings),
        *plan.config.secrets,
        *plan.product.script_extensions(plan.host).carried_secrets,
    }
    for name in required_variables(release.compose_content(stack)):
        if name not in known:
            yield Problem(
                f"{release.source} has no value for the setting {name} of {plan.host.name}",
                f"Set it in .env.{stack}, or deploy another commit.",
                ConfigurationError.exit_code,
            )


def _check_lock(facts: Mapping[str, str]) -> Iterator[CheckResult]:
    state, _, note = facts.get("lock", "").partition(" ")
    if owner := parse_lock_state([state, note]):
        yield CheckResult("lock", note=f"locked by {owner}")


def _check_connections(facts: Mapping[str, str]) -> Iterator[CheckResult]:
    """Yield a result for each other host that this one connects to.

    A refused connection is not a problem, because nothing listens there before the other host is
    deployed.
    """
    hosts: dict[str, dict[str, list[str]]] = {}
    for name, answer in sorted(facts.items()):
        if name.startswith("reaches "):
            other, _, port = name.removeprefix("reaches ").rpartition(":")
            kind = "refused" if _REFUSED.search(answer) else answer
            hosts.setdefault(other, {}).setdefault(kind, []).append(port)
    for other, ports in hosts.items():
        opened, refused, unknown = (
            ", ".join(ports.pop(kind, ())) for kind in ("open", "refused", "unknown")
        )
        notes = [f"nothing listens on {other}:{refused} (yet)"] if refused else []
        if unknown:
            notes.append(
                f"the connection to {other} cannot be checked, because this host has no bash"
            )
        problems = tuple(_connection_problem(other, each, ports[each]) for each in ports)
        yield CheckResult(f"reaches {other}", opened, problems, "; ".join(notes))


def _connection_problem(other: str, answer: str, failed_ports: Sequence[str]) -> Problem:
    code, _, text = answer.partition(" ")
    reason = text.rpartition(": ")[2] or f"code {code}"
    if code == str(_TIMED_OUT):
        reason = "no response"
    return Problem(
        f"this host cannot reach {other}:{', '.join(failed_ports)} ({reason})",
        f"Check that it resolves {other}, and that no firewall blocks the connection.",
    )
