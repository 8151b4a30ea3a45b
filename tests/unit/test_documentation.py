"""What the documentation quotes is what the code says, and every link leads somewhere."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def in_one_line(source: str) -> str:
    """Source text with its string literals joined, and what is formatted in as `…`."""
    joined = re.sub(r"[\"']\s*\n\s*f?r?[\"']", "", source)
    return re.sub(r"\{[^{}]*\}", "…", joined)


@pytest.fixture(scope="module")
def sources() -> str:
    return "\n".join(in_one_line(path.read_text()) for path in sorted(ROOT.glob("ktrdr/**/*.py")))


def quoted_messages() -> list[str]:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return list(chain.from_iterable(re.findall(r"`([^`]+)`", cell) for cell in cells))


@pytest.mark.parametrize("message", quoted_messages())
def test_every_message_in_the_troubleshooting_is_one_that_the_code_says(
    sources: str, message: str
) -> None:
    parts = [part.strip(" :") for part in re.split("…|LINE", message)]
    for part in filter(None, parts):
        assert part in sources or part in ("backend", "inventory.yml"), part


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_option_of_a_deploy_is_documented() -> None:
    from ktrdr.cli.commands.deploy import deploy

    page = (ROOT / "docs/deploying.md").read_text()
    options = {
        name
        for command in deploy.commands.values()
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
    from ktrdr.data_contracts import Delimiter, Repair
    from ktrdr.marketdata.times import FORMATS

    page = (ROOT / "docs/data.md").read_text()
    options = {name for each in import_file.params for name in each.opts if name.startswith("--")}
    words = {*options, *FORMATS, *(each.value for each in (*Repair, *Delimiter))}
    assert {word for word in words if f"`{word}" not in page} == set()
