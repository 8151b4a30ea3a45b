"""Documentation pages agree with the code, and their links have targets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Messages that the code joins from several texts.
COMPOSED_MESSAGES = {
    "the secrets' file … does not exist",
    "the private key's file … does not exist",
    "the content of … is neither YAML nor JSON",
    "… gets no new operations (…); …",
    "restart of … failed: …",
    "…inventory.yml:LINE: …",
}


def texts_of(path: Path) -> Iterator[str]:
    """Yield the text of each string in a module, with `…` for each formatted value."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{[^{}]*\}", "…", node.value)


def quoted_messages() -> list[str]:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return list(chain.from_iterable(re.findall(r"`([^`]+)`", cell) for cell in cells))


def _targets(page: Path) -> list[str]:
    targets: list[str] = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    return targets


def patterns_of(message: str) -> list[str]:
    """Return patterns of the texts in the code that make a message."""
    parts = [re.escape(part.strip(" :")) for part in re.split("…|LINE", message)]
    # A pattern that begins with `.*` is searched from every position.
    parts = [part for part in parts if part]
    return parts if message in COMPOSED_MESSAGES else [".*".join(parts)]


def test_every_message_in_the_troubleshooting_page_is_in_the_code() -> None:
    paths = sorted(ROOT.glob("ktrdr/**/*.py"))
    texts = "\n".join(text.replace("\n", " ") for path in paths for text in texts_of(path))
    messages = quoted_messages()
    assert len(messages) > 100
    for message in messages:
        for pattern in patterns_of(message):
            assert re.search(pattern, texts), message


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_within_the_repository_has_a_target(page: Path) -> None:
    for target in _targets(page):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_section_leads_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        linked_page = page.parent / target if target else page
        assert anchor in _anchors(linked_page), f"{target}#{anchor}"


def test_every_documented_mount_is_safe_and_comes_before_docker() -> None:
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("storage.md", "deploying.md"))
    lines = re.findall(r"^\S+ /\S+ (?:nfs|none) (\S+) 0 0$", pages, re.MULTILINE)
    assert len(lines) == 3
    for options in lines:
        wanted = {"nosuid", "nodev", "nosymfollow", "x-systemd.before=docker.service"}
        assert wanted <= set(options.split(","))


def test_every_picture_is_shown_on_some_page() -> None:
    shown = {path.name for page in PAGES for path in map(Path, _targets(page))}
    assert {path.name for path in (ROOT / "docs/pictures").iterdir()} <= shown


def test_every_option_of_a_deploy_is_documented() -> None:
    import click

    from ktrdr.cli.commands.deploy import deploy

    context = click.Context(deploy)

    page = "".join(
        (ROOT / "docs" / name).read_text() for name in ("deploying.md", "maintenance.md")
    )
    options = {
        name
        for command in filter(
            None, (deploy.get_command(context, name) for name in deploy.lazy_commands)
        )
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("--") and name != "--help"
    }
    assert {name for name in options if f"`{name}" not in page} <= {"--verbose"}


def test_every_exit_code_is_documented() -> None:
    from ktrdr import errors

    page = (ROOT / "docs/deploying.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.KtrdrError)} - {1}
    assert {code for code in codes if f"| {code} |" not in page} == set()


def rows_under(page: str, header: str) -> dict[str, str]:
    """Return the rows of a table by their first cell."""
    table = page.partition(f"| {header} |")[2].partition("\n\n")[0]
    cells = [line.split(" | ") for line in table.splitlines()[2:]]
    return {first.strip("| "): " | ".join(rest) for first, *rest in cells}


def test_every_event_of_a_deploy_is_documented_with_its_keys() -> None:
    from dataclasses import fields

    from ktrdr.deployment.deploy import events

    rows = rows_under((ROOT / "docs/deploying.md").read_text(), "event")
    assert set(rows) == {f"`{name}`" for name in (*events.NAMES.values(), "result")}
    for kind, name in events.NAMES.items():
        if kind in (events.Compared, events.RollbackStarted):
            continue
        keys = {field.name for field in fields(kind)} - {"host"}
        assert set(re.findall(r"`(\w+)`", rows[f"`{name}`"])) == keys, name


def test_every_outcome_that_a_history_can_show_is_documented() -> None:
    from ktrdr.deployment.hosts.history import DeployOutcome

    rows = rows_under((ROOT / "docs/deploying.md").read_text(), "outcome")
    assert set(rows) == {f"`{outcome}`" for outcome in DeployOutcome}


def test_every_key_of_the_inventory_is_documented() -> None:
    page = (ROOT / "docs/adding-a-node.md").read_text()
    example = (ROOT / "deploy/inventory.yml").read_text()
    keys = set(re.findall(r"^[#\s]*([a-z_]+):", example, re.MULTILINE)) - {"core", "workers"}
    ports = {"backend", "grafana", "jaeger", "otlp", "prometheus", "postgres", "nfs", "ports"}
    sections = {"secrets", "workers", "core"}
    missing = {key for key in keys - ports - sections if key not in page}
    assert missing <= {"env"}, missing


def test_every_option_repair_and_format_of_an_import_is_documented() -> None:
    from ktrdr.cli.commands.data import import_file
    from ktrdr.marketdata.timestamps import DATE_FORMATS
    from ktrdr.schemas.data import Delimiter, Repair

    page = (ROOT / "docs/market-data.md").read_text()
    options = {name for each in import_file.params for name in each.opts if name.startswith("--")}
    words = {*options, *DATE_FORMATS, *(each.value for each in (*Repair, *Delimiter))}
    assert {word for word in words if f"`{word}" not in page} == set()


def test_the_strategies_in_the_documentation_are_valid() -> None:
    from ktrdr.strategies.document_file import read_strategy

    page = (ROOT / "docs/strategies.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [read_strategy(text, "docs").name for text in examples] == ["dip_in_a_trend", "by_model"]


def test_every_word_of_the_strategies_language_is_documented() -> None:
    from ktrdr.strategies.catalogue import list_names
    from ktrdr.strategies.component_kinds import INDICATORS, SIZINGS
    from ktrdr.strategies.document_file import KEYS
    from ktrdr.strategies.rule_parser import PRICES
    from ktrdr.strategies.rules import CONSTANTS, CROSSINGS

    page = (ROOT / "docs/strategies.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("|")}
    for kind in INDICATORS.values():
        arguments = rows[f"`{kind.name}`"].split("|")[2]
        assert re.findall(r"`(\w+)`", arguments) == [each.name for each in kind.arguments]
    words = [*KEYS, *SIZINGS, *PRICES, *CONSTANTS, *CROSSINGS, *list_names(Path("/nonexistent"))]
    words += [argument.name for kind in SIZINGS.values() for argument in kind.arguments]
    for word in words:
        assert re.search(rf"`[^`]*\b{word}\b[^`]*`", page), word


def test_the_documented_defaults_of_built_in_strategies_are_correct() -> None:
    from ktrdr.strategies.catalogue import list_strategies

    page = (ROOT / "docs/strategies.md").read_text()
    for strategy in list_strategies(Path("/nonexistent")):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{strategy.name}`"))
        for each in strategy.parameters:
            defaults = ", ".join(f"{value:g}" for value in each.defaults)
            assert f"`{each.name}` {defaults}" in row, (strategy.name, each.name)


def test_every_parameter_and_every_figure_of_an_operation_is_documented() -> None:
    from dataclasses import fields

    from ktrdr.backtesting.statistics import Statistics
    from ktrdr.schemas import BacktestParameters, SweepParameters, TrainingParameters

    page = (ROOT / "docs/backtests-and-trainings.md").read_text()
    models = (BacktestParameters, SweepParameters, TrainingParameters)
    words = {name for model in models for name in model.model_fields}
    words |= {field.name for field in fields(Statistics)}
    assert {word for word in words if f"`{word}`" not in page} == set()
