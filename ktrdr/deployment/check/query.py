"""Looks at all that a deploy depends on, at once, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import preflight
from ktrdr.deployment.deploy import step_errors as faults
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.steps import check_options
from ktrdr.deployment.homelab import credentials
from ktrdr.deployment.homelab.host_config import REGISTRY_LOGIN
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts import lock, registry
from ktrdr.deployment.hosts import parallel as abreast
from ktrdr.deployment.hosts.problems import Finding, Point, findings_of
from ktrdr.deployment.hosts.registry import Answer
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.secrets import inspection, requirements
from ktrdr.deployment.secrets.choice import described
from ktrdr.deployment.secrets.source import SecretSource
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import KtrdrError, SecretsError
from ktrdr.secret import Scrubber, Secret

_TIMEOUT_S: Final = 30.0
_TOKEN: Final = "ghcr_token"  # noqa: S105  # the name of a field, not its value
_REFUSED: Final = re.compile("refused", re.IGNORECASE)
_TIMED_OUT: Final = 124


@dataclass(frozen=True, slots=True)
class Checked:
    """What was seen of one place.

    Attributes:
        place: The laptop, the vault, the registry, or what the operator calls a host.
        about: Which one it is: a host's name, a vault's item.
        points: All that was looked at.
    """

    place: str
    about: str
    points: tuple[Point, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that is wrong with it."""
        return tuple(findings_of(self.points))


def exit_code(report: Sequence[Checked]) -> int:
    """0, or that of the first thing that a deploy would stumble over, which is the lowest."""
    codes = [finding.exit_code for checked in report for finding in checked.findings]
    return min(codes, default=0)


@dataclass(slots=True)
class Checker:
    """Checks vault, hosts and registry.

    Attributes:
        inventory: What is where.
        plans: What would be deployed where, as far as it could be planned.
        source: The vault.
        transport: The way to the hosts.
        scrubber: Cleans what comes back over it; it learns what the vault gives.
        clock: The time.
    """

    inventory: Inventory
    plans: Mapping[Place, Plan]
    source: SecretSource
    transport: Transport
    scrubber: Scrubber
    clock: Clock = field(default_factory=Clock)
    _answers: dict[str, dict[str, Answer]] = field(default_factory=dict)

    def all(self) -> list[Checked]:
        """Vault, registry and hosts; the vault is asked while the hosts look at themselves."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            fetched = pool.submit(self._vault)
            hosts = abreast.on_each(
                lambda place: self._host(place, fetched), list(self.plans), self.transport
            )
            vault, _ = fetched.result()
        return [vault, self._registry(vault), *hosts]

    def _vault(self) -> tuple[Checked, Secret | None]:
        about = described(self.inventory.secrets)
        try:
            fields = self.source.fetch()
        except KtrdrError as error:
            return Checked("vault", about, (Point("item", findings=(Finding.of(error),)),)), None
        # No host is given any of these but the token; the user's name may be in every other line.
        self.scrubber.learn(*(each for name, each in fields.items() if name != "db_username"))
        wanted = [name for plan in self.plans.values() for name in credentials.fields_for(plan)]
        complaints = requirements.complaints_of(fields, dict.fromkeys(wanted))
        weak = {
            seen.field: f"{seen.field} is weak: it {' and '.join(seen.remarks)}"
            for seen in inspection.inspect(fields)
            if seen.strength == "weak"
        }
        points = [
            Point(label, findings=_of_field(text), remark=weak.get(label, ""))
            for label, text in complaints.items()
        ]
        token = None if complaints.get(_TOKEN) else fields.get(_TOKEN)
        return Checked("vault", about, tuple(points)), token

    def _host(self, place: Place, fetched: Future[tuple[Checked, Secret | None]]) -> Checked:
        plan = self.plans[place]
        try:
            facts = self._facts(plan)
            points = list(preflight.points(plan, facts, now=self.clock.now()))
        except KtrdrError as error:
            return Checked(place.name, place.host, (Point("SSH", findings=(Finding.of(error),)),))
        points += [*_locked(facts), *_reached(facts)]
        if not any(findings_of(points[:2])):
            self._ask_registry(plan, fetched.result()[1])
        return Checked(place.name, place.host, (Point("SSH"), *points))

    def _facts(self, plan: Plan) -> dict[str, str]:
        arguments = (
            *check_options(plan.site),
            *("--ports", "yes"),
            *repeat("--reach", (f"{host}:{port}" for host, port in self._ways(plan))),
        )
        result = self._run(plan, Script("scripts/check.sh", arguments))
        if result.exit_code:
            raise faults.looking_failed(plan, "readiness", result)
        return preflight.read_facts(result.stdout)

    def _ways(self, plan: Plan) -> Iterator[tuple[str, int]]:
        """What the containers of a host connect to on others."""
        core = self.inventory.core
        if plan.site.target == "workers":
            for port in (core.ports.postgres, core.ports.otlp, core.ports.backend):
                yield core.host, port
            return
        for other in self.plans.values():
            for service in other.wanted:
                if service.worker_url:
                    yield other.site.host, int(service.worker_url.rpartition(":")[2])

    def _ask_registry(self, plan: Plan, token: Secret | None) -> None:
        """Asks for the release's images, and for others where the host does not have them."""
        images = sorted({service.image for service in plan.wanted})
        own = [image for image in images if image.endswith(f":{plan.release.tag}")]
        others = [image for image in images if image not in own]
        login = {REGISTRY_LOGIN: credentials.registry_login(self.inventory, token or Secret(""))}
        self.scrubber.learn(*login.values())
        script = Script(
            "scripts/ask_registry.sh",
            (*repeat("--ask", own if token else ()), *repeat("--ask-if-missing", others)),
            secrets=(REGISTRY_LOGIN,) if token else (),
        )
        try:
            result = self._run(plan, script, login)
        except KtrdrError as error:
            result = RemoteResult(1, "", error.message, 0.0)
        self._answers[plan.site.host] = registry.read_digests(result.stdout.splitlines())

    def _registry(self, vault: Checked) -> Checked:
        """What the hosts heard of the registry, each image once, and each refusal once."""
        points = []
        if any(point.name in (_TOKEN, "item") for point in vault.points if point.findings):
            points.append(Point("login", remark="not tried, because the vault gave no ghcr_token"))
        elif not self._answers:
            points.append(Point("login", remark="not asked, because no host can ask it"))
        for image in sorted({image for heard in self._answers.values() for image in heard}):
            found = [
                refusal
                for plan in self.plans.values()
                if (refusal := self._refusal(plan, image)) is not None
            ]
            digest = next(a[image].text for a in self._answers.values() if image in a)
            shown = "" if found else digest.removeprefix("sha256:")[:12]
            points.append(Point(image.rpartition("/")[2], shown, tuple(dict.fromkeys(found))))
        return Checked("registry", self.inventory.registry, tuple(points))

    def _refusal(self, plan: Plan, image: str) -> Finding | None:
        answer = self._answers.get(plan.site.host, {}).get(image)
        if answer is None or answer.code == 0:
            return None
        said = RemoteResult(answer.code, "", f"Image {image} Error\n{answer.text}", 0.0)
        return Finding.of(faults.fetching_failed(plan, "pull", said))

    def _run(
        self, plan: Plan, script: Script, values: Mapping[str, Secret] | None = None
    ) -> RemoteResult:
        rendered = render(script, values or {})
        return self.transport.run(plan.site.host, rendered, timeout_s=_TIMEOUT_S)


def _of_field(complaint: str | None) -> tuple[Finding, ...]:
    if complaint is None:
        return ()
    return (Finding(complaint, requirements.CORRECT, SecretsError.exit_code),)


def _locked(facts: Mapping[str, str]) -> Iterator[Point]:
    state, _, note = facts.get("lock", "").partition(" ")
    owner = lock.read_shown([state, note])
    if owner:
        yield Point("lock", remark=f"somebody works on it: {owner}")


def _reached(facts: Mapping[str, str]) -> Iterator[Point]:
    """A point for each other host that this one connects to."""
    tried: dict[str, dict[str, str]] = {}
    for name, answer in facts.items():
        if name.startswith("reaches "):
            other, _, port = name.removeprefix("reaches ").rpartition(":")
            tried.setdefault(other, {})[port] = answer
    for other, answers in tried.items():
        yield _way_to(other, dict(sorted(answers.items())))


def _way_to(other: str, answers: Mapping[str, str]) -> Point:
    """Nobody who listens is no fault before the other host is deployed to; silence is one."""
    opened = [port for port, answer in answers.items() if answer == "open"]
    closed = [port for port, answer in answers.items() if _REFUSED.search(answer)]
    unknown = [port for port, answer in answers.items() if answer == "unknown"]
    lost: dict[str, list[str]] = {}
    for port, answer in answers.items():
        if port not in (*opened, *closed, *unknown):
            lost.setdefault(answer, []).append(port)
    remarks = []
    if closed:
        remarks.append(f"nobody listens on {other}:{', '.join(closed)} (yet)")
    if unknown:
        remarks.append(f"whether it reaches {other} cannot be tried: it has no bash")
    return Point(
        f"reaches {other}",
        ", ".join(opened),
        tuple(_unreached(other, each, answer) for answer, each in lost.items()),
        "; ".join(remarks),
    )


def _unreached(other: str, unreached: Sequence[str], answer: str) -> Finding:
    code, _, text = answer.partition(" ")
    reason = text.rpartition(": ")[2] or f"code {code}"
    if code == str(_TIMED_OUT):
        reason = "no answer"
    return Finding(
        f"it does not reach {other}:{', '.join(unreached)} ({reason})",
        f"See that this host resolves {other}, and that no firewall between the two is in the way.",
    )
