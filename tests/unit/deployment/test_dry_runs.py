"""The scripts that a dry run shows: they are kept to the letter, and they run.

After a change of a script, ``make golden`` writes ``tests/data/dry_runs`` anew: look at what
changes there.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ktrdr.cli.deploy_summary import show_plan
from ktrdr.deployment import services
from ktrdr.deployment.deploy.plan import Plan, Request, Stamp, make
from ktrdr.deployment.deploy.steps import StepKind
from ktrdr.deployment.homelab.inventory import Inventory, with_defaults
from ktrdr.deployment.hosts import history
from ktrdr.deployment.hosts.history import Kind, Outcome
from ktrdr.deployment.hosts.lock import RELEASE_LOCK, acquire_lock, read_shown
from ktrdr.deployment.scripts.script import Script, render, render_for_display
from tests.unit.deployment.conftest import NOW
from tests.unit.deployment.day import BACKEND_IMAGE, CORE, TAG, described
from tests.unit.deployment.shell import SHELLS, Shell
from tests.unit.deployment.test_services import BACKEND_ANSWER, NEEDS_DB, OWNER, Ground

GOLDEN = Path(__file__).parents[2] / "data/dry_runs"
# What `make golden` sets.
RENEW = "KTRDR_RENEW_GOLDEN" in os.environ
in_every_shell = pytest.mark.parametrize("program", SHELLS, ids=lambda program: program[0])


def shown(plan: Plan, *, whole: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80)
    show_plan(console, plan, whole=whole)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rollback(planned: Callable[..., Plan]) -> Plan:
    """The way of the core back to a release whose image was recorded."""
    good = replace(
        planned().entry,
        id="20261101-000000-0001",
        outcome=Outcome.DEPLOYED,
        images={f"{BACKEND_IMAGE}:{TAG}": "sha256:0123"},
    )
    return planned(kind=Kind.ROLLBACK, again=good, of="20261123-110000-cd34")


def restart(clock: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each script of a restart of the core, as if there were a dry run of it."""
    sent: list[Script] = [acquire_lock(CORE.workdir, OWNER.note(), wait_s=0)]

    def note(script: Script, values: Any) -> Any:
        if script.file not in {each.file for each in sent}:
            sent.append(script)
        return render(script, values)

    monkeypatch.setattr(services, "render", note)
    ground = Ground(CORE, clock)
    ground.has(
        described("backend", needs=NEEDS_DB),
        described("db", "postgres:17"),
        answers=(f"backend {BACKEND_ANSWER}",),
    )
    ground.attendant.restart(())
    return "\n".join(map(render_for_display, [*sent, RELEASE_LOCK]))


@pytest.fixture
def dry_runs(planned, clock, monkeypatch) -> dict[str, str]:
    """What is shown, by the name of the file it is kept in."""
    return {
        "core": shown(planned()),
        "workers": shown(planned("workers", scale=2), whole=True),
        "rollback": shown(rollback(planned)),
        "restart": restart(clock, monkeypatch),
    }


@pytest.mark.parametrize("name", ["core", "workers", "rollback", "restart"])
def test_what_is_shown_is_what_was_looked_at(dry_runs, name) -> None:
    file = GOLDEN / f"{name}.sh"
    if RENEW:
        file.write_text(dry_runs[name])
    assert dry_runs[name] == file.read_text(), "make golden writes the files anew"


@in_every_shell
def test_every_shell_understands_what_is_shown(dry_runs, program) -> None:
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
    """A host on which the steps of a plan are run by hand."""

    def __init__(self, place: Path, program: list[str], release: Any, target: Any) -> None:
        self.shell = Shell(place, program)
        self.workdir = place / "it's work"
        workdir = {"workdir": str(self.workdir), "shared_directory": str(place)}
        inventory = Inventory.model_validate(
            with_defaults({"core": workdir, "workers": {"B": workdir}})
        )
        request = Request(target, node="B" if target == "workers" else "")
        self.plan = make(inventory, request, release, Stamp("r1", "ada@laptop", NOW))

    def run(
        self, env: Mapping[str, str], *, whole: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.shell.program,
            input=shown(self.plan, whole=whole),
            env={"PATH": f"{self.shell.place}:{os.environ['PATH']}", **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def history(self) -> tuple[Any, ...]:
        file = self.workdir / history.RECORDS / "history.jsonl"
        return history.read(file.read_text().splitlines()) if file.exists() else ()


@in_every_shell
@pytest.mark.parametrize("target", ["core", "workers"])
def test_the_steps_that_are_shown_deploy_without_ktrdr(tmp_path, release, program, target) -> None:
    host = BreakGlass(tmp_path, program, release, target)
    host.shell.docker("ps", 'case "$*" in *service=db*) echo id ;; esac')
    host.shell.docker("compose", f'case "$*" in *" up "*) env -0 >{tmp_path}/env ;; esac')
    done = host.run(SECRETS)
    assert done.returncode == 0, done.stderr
    for name, content in release.files.items():
        assert (host.workdir / name).read_bytes() == content
    given = (tmp_path / "env").read_text().split("\0")
    for name in host.plan.site.secrets:
        assert f"{name}={SECRETS[name]}" in given
    (entry,) = host.history()
    assert (entry.outcome, entry.tag) == (Outcome.CUT_OFF, release.tag), "nothing judged its health"
    assert "by hand" in entry.reason
    kept = host.workdir / history.RECORDS / "releases" / f"{release.configuration}.tar.gz"
    assert kept.exists()
    assert is_unlocked(host)


def is_unlocked(host: BreakGlass) -> bool:
    asked = Script("scripts/show_lock.sh", (str(host.workdir),))
    return read_shown(host.shell.run(asked)) is None


def test_nothing_is_changed_where_a_variable_is_missing(tmp_path, release) -> None:
    host = BreakGlass(tmp_path, ["sh"], release, "workers")
    done = host.run({name: text for name, text in SECRETS.items() if name != "WORKER_TOKEN"})
    assert done.returncode != 0
    assert "WORKER_TOKEN" in done.stderr
    assert host.history() == ()
    assert not (host.workdir / "docker-compose.workers.yml").exists()


def test_nothing_is_changed_where_the_files_were_left_out(tmp_path, release) -> None:
    host = BreakGlass(tmp_path, ["sh"], release, "workers")
    done = host.run(SECRETS, whole=False)
    assert done.returncode != 0
    assert "print them with --dry-run -v" in done.stderr
    assert host.history() == ()


def test_nothing_is_changed_where_another_deploy_has_the_lock(tmp_path, release) -> None:
    host = BreakGlass(tmp_path, ["sh"], release, "workers")
    script = render(acquire_lock(str(host.workdir), OWNER.note(), wait_s=0), {}).reveal()
    with subprocess.Popen(
        ["sh", "-c", f"{script}\necho held; exec sleep 60"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        done = host.run(SECRETS)
        other.terminate()
    assert done.returncode == 75
    assert OWNER.who in done.stdout
    assert host.history() == ()


def test_each_step_of_a_plan_is_one_of_our_scripts(planned) -> None:
    files = {step.kind: step.script.file for step in planned().steps}
    assert files == {
        StepKind.LOCK: "scripts/acquire_lock.sh",
        StepKind.CHECK: "scripts/check.sh",
        StepKind.FETCH: "scripts/fetch.sh",
        StepKind.APPLY: "scripts/apply.sh",
        StepKind.VERIFY: "scripts/verify.sh",
        StepKind.RECORD: "scripts/record.sh",
    }
