"""The scripts that a dry run prints: they match the golden files, and they run.

After a change of a script, ``make golden`` writes ``tests/data/dry_runs`` again. Review the changes
there.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from ktrdr.cli.deploy_summary import show_plan
from ktrdr.deployment import services
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, StepKind, make_plan
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.homelab.preparation import host_requirements
from ktrdr.deployment.hosts import queries
from ktrdr.deployment.hosts.history import (
    RECORDS,
    DeployKind,
    DeployOutcome,
    HistoryEntry,
    parse_history,
)
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import (
    LOCK_BUSY,
    RELEASE_SCRIPT,
    acquire_script,
    parse_lock_state,
)
from ktrdr.deployment.prepare.plan import facts_script, make_preparation
from ktrdr.deployment.product import Product
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.script import Script, render, render_for_display
from ktrdr.secret import Secret
from tests.unit.deployment.conftest import NOW
from tests.unit.deployment.harness import earlier_entry
from tests.unit.deployment.prepare.conftest import BARE
from tests.unit.deployment.sample_hosts import BACKEND_IMAGE, CORE, TAG, container_json
from tests.unit.deployment.shell import SHELLS, Shell
from tests.unit.deployment.test_services import BACKEND_REPORT, NEEDS_DB, OWNER, ManagedHost

GOLDEN = Path(__file__).parents[2] / "data/dry_runs"
# Set by `make golden`.
RENEW = "KTRDR_RENEW_GOLDEN" in os.environ
in_every_shell = pytest.mark.parametrize("program", SHELLS, ids=lambda program: program[0])


def printed(plan: Plan, *, whole: bool = False) -> str:
    """Return what a dry run prints for a plan."""
    console = Console(file=io.StringIO(), width=80)
    show_plan(console, plan, whole=whole)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rollback(planned: Callable[..., Plan]) -> Plan:
    """Plan a rollback of the core to a release whose image was recorded."""
    good = earlier_entry(planned(), tag=TAG, images={f"{BACKEND_IMAGE}:{TAG}": "sha256:0123"})
    return planned(
        kind=DeployKind.ROLLBACK, redeploy_of=good, rolled_back_from="20261123-110000-cd34"
    )


def restart(product: Product, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the scripts of a restart of the core, as if there were a dry run of it."""
    sent: list[Script] = [acquire_script(CORE.workdir, OWNER.to_json(), wait_s=0)]

    def remember(script: Script, values: Mapping[str, Secret]) -> Secret:
        sent.append(script)
        return render(script, values)

    monkeypatch.setattr(services, "render", remember)
    monkeypatch.setattr(queries, "render", remember)
    host = ManagedHost(CORE, product, clock)
    host.set_containers(
        container_json("backend", depends_on=NEEDS_DB),
        container_json("db", "postgres:17"),
        reports=(f"backend {BACKEND_REPORT}",),
    )
    host.manager.restart(())
    by_file = {script.file: script for script in reversed(sent)}
    scripts = [*dict.fromkeys(by_file[script.file] for script in sent), RELEASE_SCRIPT]
    return "\n".join(map(render_for_display, scripts))


def preparation(inventory: Inventory) -> str:
    """Return the scripts that prepare a bare worker node."""
    (host,) = select_hosts(inventory, ["workers", "B"])
    requirements = host_requirements(inventory, host)
    plan = make_preparation(requirements, BARE)
    apply = Script("scripts/prepare.sh", ("apply", *plan.arguments))
    return "\n".join(map(render_for_display, [facts_script(requirements), apply]))


@pytest.fixture
def dry_runs(planned, product, clock, monkeypatch, inventory) -> dict[str, str]:
    """Return what dry runs print, by the name of the golden file."""
    return {
        "core": printed(planned()),
        "workers": printed(planned("workers", scale=2), whole=True),
        "rollback": printed(rollback(planned)),
        "restart": restart(product, clock, monkeypatch),
        "prepare": preparation(inventory),
    }


@pytest.mark.parametrize("name", ["core", "workers", "rollback", "restart", "prepare"])
def test_dry_runs_match_the_golden_files(dry_runs, name) -> None:
    file = GOLDEN / f"{name}.sh"
    if RENEW:
        file.write_text(dry_runs[name])
    assert dry_runs[name] == file.read_text(), "make golden writes the files again"


@in_every_shell
def test_every_shell_parses_dry_runs(dry_runs, program) -> None:
    for text in dry_runs.values():
        subprocess.run([*program, "-n"], input=text.encode(), check=True)


# ---------------------------------------------------------------- the steps, run without ktrdr

SECRETS = {
    name: f"{name} '\"$x\\\n"
    for name in (
        *("DB_USER", "DB_PASSWORD", "DB_PASSWORD_VERIFIER", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG"),
    )
}


class BreakGlass:
    """A host on which an operator runs the steps of a plan by hand."""

    def __init__(self, directory: Path, program: list[str], release: Release, target: str) -> None:
        self.shell = Shell(directory, program)
        self.workdir = directory / "it's work"
        values = {"workdir": str(self.workdir), "shared_directory": str(directory)}
        inventory = Inventory.model_validate(
            add_defaults({"core": values, "workers": {"B": values}})
        )
        (host,) = select_hosts(inventory, [target])
        deploy_id = DeployId("r1", "ada@laptop", NOW)
        self.plan = make_plan(Homelab(inventory), host, release, deploy_id, DeployOptions())

    def run(
        self, env: Mapping[str, str], *, whole: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.shell.program,
            input=printed(self.plan, whole=whole),
            env={"PATH": f"{self.shell.directory}:{os.environ['PATH']}", **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def history(self) -> tuple[HistoryEntry, ...]:
        file = self.workdir / RECORDS / "history.jsonl"
        return parse_history(file.read_text().splitlines()) if file.exists() else ()

    @property
    def is_unlocked(self) -> bool:
        query = Script("scripts/show_lock.sh", (str(self.workdir),))
        return parse_lock_state(self.shell.run(query)) is None


@in_every_shell
@pytest.mark.parametrize("target", ["core", "workers"])
def test_the_printed_steps_deploy_without_ktrdr(tmp_path, release, program, target) -> None:
    host = BreakGlass(tmp_path, program, release, target)
    host.shell.docker("ps", 'case "$*" in *service=db*) echo id ;; esac')
    host.shell.docker("compose", f'case "$*" in *" up "*) env -0 >{tmp_path}/env ;; esac')
    done = host.run(SECRETS)
    assert done.returncode == 0, done.stderr
    for name, content in release.files.items():
        assert (host.workdir / name).read_bytes() == content
    exported = (tmp_path / "env").read_text().split("\0")
    for name in host.plan.config.secrets:
        assert f"{name}={SECRETS[name]}" in exported
    (entry,) = host.history()
    assert (entry.outcome, entry.tag) == (DeployOutcome.CUT_OFF, release.tag)
    assert "run manually" in entry.reason
    archive = f"{release.configuration_hash}.tar.gz"
    assert (host.workdir / RECORDS / "releases" / archive).exists()
    assert host.is_unlocked


def test_a_missing_variable_ends_the_steps_before_anything_changes(tmp_path, release) -> None:
    host = BreakGlass(tmp_path, ["sh"], release, "workers")
    done = host.run({name: text for name, text in SECRETS.items() if name != "WORKER_TOKEN"})
    assert done.returncode != 0
    assert "WORKER_TOKEN" in done.stderr
    assert host.history() == ()
    assert not (host.workdir / "docker-compose.workers.yml").exists()


def test_missing_files_end_the_steps_before_anything_changes(tmp_path, release) -> None:
    host = BreakGlass(tmp_path, ["sh"], release, "workers")
    done = host.run(SECRETS, whole=False)
    assert done.returncode != 0
    assert "print them with --dry-run -v" in done.stderr
    assert host.history() == ()


def test_the_lock_of_another_deploy_ends_the_steps_before_anything_changes(
    tmp_path, release
) -> None:
    host = BreakGlass(tmp_path, ["sh"], release, "workers")
    script = render(acquire_script(str(host.workdir), OWNER.to_json(), wait_s=0), {}).reveal()
    with subprocess.Popen(
        ["sh", "-c", f"{script}\necho held; exec sleep 60"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        done = host.run(SECRETS)
        other.terminate()
    assert done.returncode == LOCK_BUSY
    assert OWNER.deploy.who in done.stdout
    assert host.history() == ()


def test_each_step_has_a_script_file(planned) -> None:
    files = {step.kind: step.script.file for step in planned().steps}
    assert files == {
        StepKind.LOCK: "scripts/acquire_lock.sh",
        StepKind.CHECK: "scripts/check.sh",
        StepKind.FETCH: "scripts/fetch.sh",
        StepKind.START: "scripts/start_container.sh",
        StepKind.APPLY: "scripts/start_deploy.sh",
        StepKind.VERIFY: "scripts/verify.sh",
        StepKind.RECORD: "scripts/record.sh",
    }
