"""What can go from a host, and above all what cannot."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts import history
from ktrdr.deployment.hosts.history import Outcome
from ktrdr.deployment.prune import Waste, needed_releases, waste
from tests.unit.deployment.day import BACKEND_IMAGE, entry, recorded


def tag(number: int) -> str:
    return f"sha-000000{number}"


def image(number: int, *, tags: bool = True, repository: str = BACKEND_IMAGE) -> str:
    return json.dumps(
        {
            "id": f"sha256:id{number}",
            "tags": [f"{repository}:{tag(number)}"] if tags else [],
            "digests": [f"{repository}@sha256:digest{number}"],
            "size": 1000,
        }
    )


def release(number: int, **more):
    images = {f"{BACKEND_IMAGE}:{tag(number)}": f"sha256:digest{number}"}
    return entry(number, tag(number), **{"images": images, **more})


def found(*entries, keep: int = 2, **more: list[str]) -> Waste:
    return waste({"history": recorded(*entries), **more}, [BACKEND_IMAGE], keep)


def names(of: Waste) -> list[str]:
    return [each.id for each in of.images]


def test_images_of_older_releases_go_and_those_of_the_last_ones_stay() -> None:
    entries = [release(number) for number in (1, 2, 3, 4)]
    images = [image(number) for number in (1, 2, 3, 4)]
    assert names(found(*entries, images=images)) == ["sha256:id1", "sha256:id2"]


def test_an_image_that_any_container_was_made_from_stays() -> None:
    entries = [release(number) for number in (1, 2, 3)]
    assert not found(*entries, images=[image(1)], used=["sha256:id1"]).images


def test_releases_that_failed_are_no_place_to_go_back_to() -> None:
    entries = [release(1), release(2), release(3, outcome=Outcome.FAILED), release(4)]
    images = [image(number) for number in (1, 2, 3, 4)]
    assert names(found(*entries, images=images)) == ["sha256:id1", "sha256:id3"]


def test_what_came_last_stays_however_it_ended() -> None:
    entries = [release(1), release(2), release(3, outcome=Outcome.CUT_OFF, duration_s=None)]
    assert not found(*entries, images=[image(number) for number in (1, 2, 3)]).images


def test_the_same_release_again_takes_no_place_from_another() -> None:
    again = [replace(release(2), id=f"again-{number}") for number in range(3)]
    entries = [release(1), *again]
    assert not found(*entries, images=[image(1)]).images


def test_an_image_whose_tag_was_moved_is_known_by_its_digest() -> None:
    images = [image(1, tags=False), image(2, tags=False)]
    assert names(found(release(2), images=images, keep=1)) == ["sha256:id1"]


def test_images_that_are_not_ours_stay_unless_a_release_brought_them() -> None:
    foreign = image(7, repository="somebody/else")
    brought = image(8, repository="grafana/grafana")
    first = release(1, images={f"grafana/grafana:{tag(8)}": "sha256:digest8"})
    of = found(first, release(2), release(3), images=[foreign, brought])
    assert names(of) == ["sha256:id8"]


def test_kept_configurations_of_older_releases_and_broken_off_files_go() -> None:
    entries = [release(number) for number in (1, 2, 3)]
    kept = ["10 conf1.tar.gz", "10 conf2.tar.gz", "10 conf3.tar.gz", "5 conf9.tar.gz.partial"]
    of = found(*entries, kept=kept, staged=["12"])
    assert of.configurations == (("conf1.tar.gz", 10), ("conf9.tar.gz.partial", 5))
    assert of.size == 15 + 12 * 1024


def test_a_host_without_waste_is_left_alone() -> None:
    assert found(release(1), images=[image(1)], kept=["10 conf1.tar.gz"]).is_empty


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(Outcome))), st.integers(1, 4))
def test_the_way_back_is_never_pruned(lives: list[tuple[int, Outcome]], keep: int) -> None:
    entries = [release(number, outcome=outcome) for number, outcome in lives]
    needed = needed_releases(entries, keep)
    running = history.running(entries, history.ALL)
    assert running is None or running in needed
    if entries:
        assert entries[-1] in needed
        way_back = history.before(entries)
        if way_back and keep > 1:
            assert any(history.same(way_back, each) for each in needed)


@given(st.dictionaries(st.sampled_from(["images", "kept", "used", "staged"]), st.lists(st.text())))
def test_whatever_a_host_prints_nothing_is_guessed(said: dict[str, list[str]]) -> None:
    assert not waste(said, [BACKEND_IMAGE], 2).images
