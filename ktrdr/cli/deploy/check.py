"""`ktrdr deploy check`: find everything that would prevent a deploy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.operator import new_deploy_id
from ktrdr.cli.deploy.options import query_options
from ktrdr.cli.hosts import read_inventory, ssh_program
from ktrdr.cli.render import console, count_of, spinner, write_json
from ktrdr.deployment.check import (
    CheckedSubject,
    Checker,
    check_checkout,
    check_plan,
    check_programs,
    exit_code,
)
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.secret_source import describe_source, make_source
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.problems import CheckResult, Problem
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import validate_tag
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Scrubber

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1
_INDENT: Final = 4


@click.command(epilog=EXIT_CODES)
@query_options
def check(hosts: tuple[str, ...], **options: Any) -> None:
    """Find everything that would prevent a deploy, on this machine and on the hosts.

    Changes nothing, and reports all problems together. The exit code is 0, or the lowest code of
    all problems found. A deploy would exit with the same code.
    """
    parsed = DeployOptions(**options)
    with spinner("checking this machine, vault, registry and hosts …"):
        report = list(_check(hosts, parsed))
    if parsed.as_json:
        write_json(to_json(report))
    else:
        show(console(), report)
    if code := exit_code(report):
        raise SystemExit(code)


def _check(words: Sequence[str], options: DeployOptions) -> Iterator[CheckedSubject]:
    checkout = Checkout.find(Path.cwd())
    home = Path.home()
    root = checkout.root
    directory = f"~/{root.relative_to(home)}" if root.is_relative_to(home) else str(root)
    from_checkout = check_checkout(checkout, options.tag)
    try:
        inventory = read_inventory(options.inventory, checkout=checkout, settings=options.settings)
    except KtrdrError as error:
        unreadable = CheckResult("inventory", problems=(Problem.from_error(error),))
        results = (*check_programs(SshProgram().executable), from_checkout, unreadable)
        yield CheckedSubject("laptop", directory, results)
        return
    hosts = select_hosts(inventory, words)
    product = Homelab(inventory)
    plans, plan_results = _make_plans(hosts, product, checkout, options)
    program = ssh_program(inventory)
    results = (
        *check_programs(program.executable),
        from_checkout,
        CheckResult("inventory", count_of(hosts, "host")),
        *plan_results,
    )
    yield CheckedSubject("laptop", directory, results)
    secrets, scrubber = inventory.secrets, Scrubber()
    with SshTransport(program, scrubber=scrubber) as transport:
        checker = Checker(
            product,
            plans,
            make_source(secrets),
            describe_source(secrets),
            transport,
            scrubber,
        )
        yield from checker.check_all()
    for host in hosts:
        if host not in plans:
            note = "not checked, because there is nothing to deploy"
            yield CheckedSubject(host.name, host.address, (CheckResult("not checked", note=note),))


def _make_plans(
    hosts: Sequence[Host], product: Homelab, checkout: Checkout, options: DeployOptions
) -> tuple[dict[Host, Plan], list[CheckResult]]:
    """Return the plans that can be made, and each different result of checking them."""
    plans: dict[Host, Plan] = {}
    results: dict[CheckResult, None] = {}
    deploy_id, is_alone = new_deploy_id(), all(host.node for host in hosts)
    for host in hosts:

        def make(host: Host = host) -> Plan:
            tag = validate_tag(options.tag) if options.tag else None
            release = checkout.load_release(host.stack, tag)
            return make_plan(product, host, release, deploy_id, options, is_alone=is_alone)

        plan, result = check_plan(make)
        results[result] = None
        if plan:
            plans[host] = plan
    return plans, list(results)


def show(console: Console, report: Sequence[CheckedSubject]) -> None:
    """Print each subject: what is OK in one paragraph, then notes and problems with hints."""
    for number, subject in enumerate(report):
        if number:
            console.print()
        console.print(Text.assemble((subject.name, "bold"), (f"  {subject.description}", "dim")))
        good = [each for each in subject.results if not each.problems and not each.note]
        if good:
            _print_lines(console, "✓", "green", _fill(good, console.width - _INDENT))
        for note in dict.fromkeys(each.note for each in subject.results if each.note):
            _print_sentence(console, "!", "yellow", Text(note))
        for hint, group in groupby(subject.problems, key=lambda each: each.hint):
            for problem in group:
                _print_sentence(console, "✗", "red", Text(problem.message))
            if hint:
                _print_sentence(console, " ", "", Text(f"→ {hint}", style="dim"))
    console.print()
    problems = [problem for subject in report for problem in subject.problems]
    if problems:
        console.print(f"{count_of(problems, 'problem')} found; nothing was changed.")
    else:
        console.print("No problems found: a deploy can start.")


def to_json(report: Sequence[CheckedSubject]) -> dict[str, Any]:
    """Return the document that ``--json`` prints."""
    return {
        "schema": SCHEMA,
        "ok": not any(subject.problems for subject in report),
        "exit_code": exit_code(report),
        "places": [
            {
                "place": subject.name,
                "about": subject.description,
                "points": [_result_to_json(result) for result in subject.results],
            }
            for subject in report
        ],
    }


def _result_to_json(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "ok": not result.problems,
        "detail": result.detail or None,
        "remark": result.note or None,
        "findings": [
            {
                "complaint": problem.message,
                "remedy": problem.hint or None,
                "exit_code": problem.exit_code,
            }
            for problem in result.problems
        ],
    }


def _fill(results: Sequence[CheckResult], width: int) -> list[Text]:
    """Return results in lines that are not longer than the width, unless a single one is."""
    lines: list[Text] = []
    for number, result in enumerate(results):
        text = Text.assemble(result.name, (f" {result.detail}" if result.detail else "", "dim"))
        text.append(" ·" if number < len(results) - 1 else "")
        if lines and lines[-1].cell_len + 1 + text.cell_len <= width:
            lines[-1].append(" ").append_text(text)
        else:
            lines.append(text)
    return lines


def _print_sentence(console: Console, sign: str, style: str, text: Text) -> None:
    _print_lines(console, sign, style, text.wrap(console, console.width - _INDENT))


def _print_lines(console: Console, sign: str, style: str, lines: Iterable[Text]) -> None:
    """Print lines below each other, the first behind a sign."""
    for number, line in enumerate(lines):
        line.rstrip()
        start = Text.assemble("  ", (sign, style), " ") if number == 0 else Text(" " * _INDENT)
        console.print(start.append_text(line), soft_wrap=True)
