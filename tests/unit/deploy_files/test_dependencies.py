"""Tests of the list of dependencies in docs/dependencies.md, and of the locked versions."""

from __future__ import annotations

import re
import tomllib

import pytest

LISTS = ("laptop", "image", "development")


def names(requirements):
    text = "\n".join(r for r in requirements if isinstance(r, str))
    return set(re.findall(r"^[\w-]+", text, re.MULTILINE))


@pytest.fixture(scope="module")
def declared(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"].values()
    return {
        "laptop": names(project["project"]["dependencies"]),
        "image": names(project["project"]["optional-dependencies"]["runtime"]),
        "development": names(requirement for group in groups for requirement in group),
    }


@pytest.fixture(scope="module")
def described(root):
    page = (root / "docs" / "dependencies.md").read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:4]
    tables = [set(re.findall(r"^\| ([\w-]+) \|", section, re.MULTILINE)) for section in sections]
    return dict(zip(LISTS, (names - {"package"} for names in tables), strict=True))


@pytest.mark.parametrize("which", LISTS)
def test_the_page_lists_every_direct_dependency_and_no_other(declared, described, which):
    assert described[which] == declared[which]


@pytest.mark.parametrize("name", ["cli", "runtime", "build", "dev", "lab", "bench"])
def test_every_locked_package_has_hashes_and_no_line_names_an_index(root, name):
    text = (root / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    for requirement in re.split(r"\n(?=\S)", text):
        assert requirement.startswith("#") or "--hash=sha256:" in requirement
    assert "index-url" not in text
    assert "://" not in text


def test_a_laptop_installs_no_dependency_of_the_runtime(root, declared):
    locked = (root / "requirements" / "cli.txt").read_text(encoding="utf-8")
    packages = set(re.findall(r"^([\w-]+)==", locked, re.MULTILINE))
    assert not packages & declared["image"]


def test_the_page_lists_the_versions_of_third_party_images(root, core):
    page = (root / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for name in ("db", "prometheus", "grafana", "jaeger"):
        image, tag = core["services"][name]["image"].split(":")
        version = tag.removeprefix("v").partition("-")[0]
        assert f"| {image} {version}" in page


def test_the_page_of_the_lab_names_the_versions_that_it_stands_for(root, core):
    page = (root / "docs" / "lab.md").read_text(encoding="utf-8")
    for name, product in (("db", "TimescaleDB"), ("prometheus", "Prometheus")):
        major, minor, *_ = core["services"][name]["image"].partition(":")[2].lstrip("v").split(".")
        assert f"| {product} {major}.{minor} " in page
