"""Names of images, and what Compose does according to real documents of both image stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.deploy.comparison import Action, compare
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.containers import parse_containers
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.images import Image, ImageName, parse_image_name, parse_images

DATA = Path(__file__).parents[3] / "data/images"
STORES = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
SCENARIOS = ["at_rest", "another_index", "moved_tag", "older_compose"]
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("redis", ("redis", "latest", "")),
        ("redis:7", ("redis", "7", "")),
        ("library/redis:7", ("redis", "7", "")),
        ("docker.io/redis:7", ("redis", "7", "")),
        ("docker.io/library/redis", ("redis", "latest", "")),
        ("index.docker.io/library/redis:7", ("redis", "7", "")),
        ("docker.io/timescale/timescaledb:2", ("timescale/timescaledb", "2", "")),
        ("library/a/b:1", ("library/a/b", "1", "")),
        ("localhost/redis", ("localhost/redis", "latest", "")),
        ("localhost:5000/library/redis", ("localhost:5000/library/redis", "latest", "")),
        ("registry.lan:5000/a/b:1", ("registry.lan:5000/a/b", "1", "")),
        (f"redis@{DIGEST}", ("redis", "", DIGEST)),
        (f"docker.io/redis:7@{DIGEST}", ("redis", "7", DIGEST)),
        (f"localhost:5000/a@{DIGEST}", ("localhost:5000/a", "", DIGEST)),
    ],
)
def test_each_way_of_writing_a_name_is_read_as_docker_does(name: str, expected: ImageName) -> None:
    assert parse_image_name(name) == expected


WORDS = st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True)


@given(
    st.sampled_from(["", "localhost/", "localhost:5000/", "ghcr.io/", "a.b:1/"]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "7", "v1.2-x"]),
    st.sampled_from(["", DIGEST]),
)
def test_the_parts_of_a_name_survive(host: str, path: list[str], tag: str, digest: str) -> None:
    repository = host + "/".join(path)
    name = repository + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    expected = ImageName(repository, tag or ("" if digest else "latest"), digest)
    if path[0] != "library":
        assert parse_image_name(name) == expected
    if not host:
        assert parse_image_name(f"docker.io/{name}") == parse_image_name(name)
        assert parse_image_name(f"index.docker.io/{name}") == parse_image_name(name)


def test_the_version_of_an_image_is_its_tag_or_the_beginning_of_its_digest() -> None:
    assert parse_image_name(f"redis:7@{DIGEST}").version == "7"
    assert parse_image_name("redis").version == "latest"
    assert parse_image_name(f"redis@{DIGEST}").version == "sha256:0123456789ab"


def test_a_digest_is_that_of_the_same_repository() -> None:
    names = ("a@sha256:1", "localhost:5000/a@sha256:2", "a@sha256:3")
    image = Image("sha256:9", "sha256:9", names)
    assert image.registry_digests("docker.io/library/a:1") == ("sha256:1", "sha256:3")
    assert image.registry_digests("localhost:5000/a") == ("sha256:2",)
    assert image.registry_digests("b") == (), "it was built here"
    assert replace(image, digest="sha256:4").registry_digests("b") == ("sha256:4",)


@pytest.mark.parametrize("line", ["", "a", "a -", "a - {}", "a - []", 'a - {"id": 1}', "a - x"])
def test_unreadable_images_are_skipped(line: str) -> None:
    assert parse_images([line]) == {}


# --------------------------------------------------------------------------- real documents


def container_line(document: dict[str, Any]) -> str:
    """Return a container as ``lib/containers.sh`` prints it."""
    return json.dumps(
        {
            "id": document["Id"],
            "image": document["Image"],
            "manifest": document.get("ImageManifestDescriptor"),
            "name": document["Config"]["Image"],
            "labels": document["Config"]["Labels"],
            "state": document["State"],
            "restarts": document["RestartCount"],
            "created": document["Created"],
        }
    )


def image_line(name: str, document: dict[str, Any], manifest: str) -> str:
    """Return an image as ``lib/images.sh`` prints it."""
    descriptor = document.get("Descriptor")
    shown = {"id": document["Id"], "digests": document["RepoDigests"], "descriptor": descriptor}
    return f"{name} {manifest} {json.dumps(shown)}"


def sections_of(scenario: dict[str, Any], *, asked: bool) -> dict[str, list[str]]:
    """Return the output of a fetch.

    Args:
        scenario: What Docker said.
        asked: Whether the script asked for the manifest of each index.
    """
    return {
        "containers": [container_line(each) for each in scenario["containers"]],
        "images": [
            image_line(name, each, scenario["platform_ids"][name] if asked else "-")
            for name, each in scenario["images"].items()
        ],
        "hashes": scenario["hashes"],
    }


@pytest.fixture
def plan_for(planned: Callable[..., Plan]) -> Callable[[dict[str, Any]], Plan]:
    """Plan the deploy of the services that a scenario has."""

    def plan(scenario: dict[str, Any]) -> Plan:
        containers = parse_containers(sections_of(scenario, asked=True)["containers"])
        expected = tuple(
            ExpectedService(name, each.image, reports_version=False, worker_url=None)
            for name, each in containers.items()
        )
        return replace(planned(), expected=expected)

    return plan


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_compose_did_is_predicted(plan_for, store: str, scenario: str) -> None:
    facts = STORES[store][scenario]
    output = sections_of(facts, asked=True)
    comparison = compare(plan_for(facts), output, STORES[store]["compose"])
    recreated = {
        each.service: each.reason
        for each in comparison.services
        if each.action is not Action.UNCHANGED
    }
    assert sorted(recreated) == facts["recreated"]
    reasons = {
        "moved_tag": "its tag now refers to a different image",
        "older_compose": "Compose records its image differently now",
    }
    assert set(recreated.values()) <= {reasons.get(scenario)}
    assert bool(comparison.compose_note) == (scenario == "older_compose")
    # The digests are those by which a registry has the images.
    assert all(
        each.startswith("sha256:") for digests in comparison.digests.values() for each in digests
    )
    pinned = {name: digest for name, digest in comparison.digests.items() if "@" in name}
    assert all(name.endswith(digest) for name, (digest,) in pinned.items())


@pytest.mark.parametrize("store", STORES)
def test_a_container_shows_the_manifest_of_its_index(plan_for, store: str) -> None:
    facts = STORES[store]["at_rest"]
    output = sections_of(facts, asked=False)
    assert compare(plan_for(facts), output, STORES[store]["compose"]).is_empty


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("scenario", ["at_rest", "older_compose"])
def test_an_unknown_version_of_compose_may_have_recorded_either_id(
    plan_for, store: str, scenario: str
) -> None:
    facts = STORES[store][scenario]
    assert compare(plan_for(facts), sections_of(facts, asked=True)).is_empty


def test_an_older_compose_compares_indexes(plan_for) -> None:
    facts = STORES["containerd"]["older_compose"]
    plan, output = plan_for(facts), sections_of(facts, asked=True)
    assert compare(plan, output, "v5.3.1").is_empty
    facts = STORES["containerd"]["at_rest"]
    changed = compare(plan_for(facts), sections_of(facts, asked=True), "2.38.0")
    assert {each.service for each in changed.services if each.action is Action.RECREATED} == {
        *("digest", "hub", "port", "tag"),
    }


def test_an_engine_that_does_not_tell_manifests_is_compared_by_ids() -> None:
    (line,) = [
        image_line(name, each, "-")
        for name, each in STORES["containerd"]["at_rest"]["images"].items()
        if name == "one:1"
    ]
    image = parse_images([line])["one:1"]
    assert image.content_id == image.id == image.digest
