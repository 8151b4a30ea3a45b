"""Identity of images on hosts with either image store.

What a deploy predicts is compared with what Compose does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.prune import make_prune_plan
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render, repeat
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostNotReady
from lab import ssh_keys
from lab.config import MIRROR_PORT
from tests.e2e.conftest import Lab, node
from tests.e2e.docker_host import DockerHost
from tests.e2e.oci_registry import OciRegistry

LOCAL = "mirror:5000/acme/program"
RUNC = "/usr/sbin/runc"
COMPOSE = "/usr/local/lib/docker/cli-plugins/docker-compose"
# Says what runc 1.3.3 says in an LXC container whose host was not updated.
BROKEN_RUNC = r"""#!/bin/sh
log='' previous='' creates=''
for word; do
    [ "$previous" != --log ] || log=$word
    [ "$word" != create ] || creates=yes
    previous=$word
done
[ -n "$creates" ] || exec RUNC.real "$@"
printf '{"level":"error","msg":"%s","time":"2026-11-27T07:00:00Z"}\n' \
    "runc create failed: unable to start container process: error during container init: \
open sysctl net.ipv4.ip_unprivileged_port_start file: reopen fd 8: permission denied" >>"$log"
exit 1
""".replace("RUNC", RUNC)
# Says that it is a later version, and is not.
OTHER_COMPOSE = r"""#!/bin/sh
case "$1 $2 $3" in
    docker-cli-plugin-metadata*)
        COMPOSE.real "$@" | sed 's/"Version": *"[^"]*"/"Version":"v5.99.0"/' ;;
    'compose version --short') echo 5.99.0 ;;
    *) exec COMPOSE.real "$@" ;;
esac
""".replace("COMPOSE", COMPOSE)


@pytest.fixture(params=["B", "C"])
def host(bare_lab: Lab, request: pytest.FixtureRequest) -> Iterator[DockerHost]:
    """Provide a host without containers and images: B has containerd's store, C the classic one."""
    registry = OciRegistry(f"http://127.0.0.1:{MIRROR_PORT}")
    with SshTransport(SshProgram(config=ssh_keys.CONFIG)) as transport:
        host = DockerHost(node(request.param).names[0], transport, registry)
        host.clean()
        yield host
        host.clean()


def spellings(host: DockerHost) -> dict[str, str]:
    """Push two images, and return services with all ways of writing their names."""
    one = host.registry.push("library/one:1", "1").digest
    host.registry.push("library/one:latest", "1")
    host.registry.push("acme/program:1", "2")
    host.registry.push("acme/program:latest", "2")
    host.registry.push("acme/plain:1", "3", indexed=False)
    return {
        "no-tag": "one",
        "tag": "one:1",
        "hub": "docker.io/one:1",
        "library": "docker.io/library/one:1",
        "index": "index.docker.io/library/one:1",
        "organisation": "acme/program:1",
        "hub-organisation": "docker.io/acme/program:1",
        "port": f"{LOCAL}:1",
        "port-no-tag": LOCAL,
        "digest": f"one@{one}",
        "tag-digest": f"one:1@{one}",
        "hub-digest": f"docker.io/library/one:1@{one}",
        "manifest": "acme/plain:1",
    }


def test_a_host_is_at_rest_however_images_are_written(host: DockerHost) -> None:
    images = spellings(host)
    host.deploy(images)
    before = host.containers()
    again = host.deploy(images)
    assert again.planned(Action.UNCHANGED) == set(images)
    assert again.comparison.is_empty
    assert not host.diff(images).has_changes
    status = host.status()
    assert status.drift == ()
    digests = {each.service: status.image_digest(each) for each in status.containers}
    assert digests == {name: again.comparison.digests[image][0] for name, image in images.items()}
    assert all(digest.startswith("sha256:") for digest in digests.values())
    assert set(host.history()[-1].images) == set(images.values())
    # Compose itself sees nothing to do, either.
    host.run("cd /opt/image-test; docker compose -p ktrdr-core -f docker-compose.core.yml up -d")
    assert host.containers() == before


def test_another_index_of_the_same_program_is_no_other_image(host: DockerHost) -> None:
    images = spellings(host)
    first = host.deploy(images)
    before = host.containers()
    pushed = host.registry.push("library/one:1", "1", attestation="of another build")
    host.registry.push("acme/program:1", "2", attestation="of another build")
    host.run(f"docker pull --quiet one:1; docker pull --quiet {LOCAL}:1")
    again = host.deploy(images)
    assert again.planned(Action.UNCHANGED) == set(images)
    assert again.warnings == []
    assert not host.diff(images).has_changes
    earlier, current = (each.comparison.digests["one:1"] for each in (first, again))
    assert pushed.digest in current
    assert pushed.digest not in earlier
    assert host.status().drift == ()
    host.run("cd /opt/image-test; docker compose -p ktrdr-core -f docker-compose.core.yml up -d")
    assert host.containers() == before


def test_containers_of_a_moved_tag_are_recreated_as_predicted(host: DockerHost) -> None:
    images = spellings(host)
    host.deploy(images)
    before = host.containers()
    host.registry.push("library/one:1", "another program")
    host.registry.push("acme/program:latest", "another program")
    host.run(f"docker pull --quiet one:1; docker pull --quiet {LOCAL}")
    moved = {"tag", "hub", "library", "index", "port-no-tag"}
    diff = host.diff(images)
    assert {each.service for each in diff.services if each.action is Action.RECREATED} == moved
    assert {each.reason for each in diff.services if each.service in moved} == {
        "its tag now refers to a different image"
    }
    deploy = host.deploy(images)
    after = host.containers()
    assert {name for name in images if before[name] != after[name]} == moved
    assert deploy.planned(Action.RECREATED) == moved
    assert sorted(warning.partition(" refers to")[0] for warning in deploy.warnings) == sorted(
        images[name] for name in moved
    )
    assert host.status().drift == ()


def test_a_rollback_finds_an_image_without_a_tag_while_the_registry_is_away(
    host: DockerHost,
) -> None:
    images = {"port": f"{LOCAL}:1", "port-no-tag": LOCAL, "hub": "docker.io/acme/program:1"}
    names = ("acme/program:1", "acme/program:latest")
    for name in names:
        host.registry.push(name, "old")
    host.deploy(images)
    (old,) = host.history()
    for name in names:
        host.registry.push(name, "new")
    host.run("for image in " + " ".join(images.values()) + "; do docker pull --quiet $image; done")
    host.deploy(images)
    rejected = "-p tcp --dport 5000 -j REJECT --reject-with tcp-reset"
    host.run(f"iptables -I OUTPUT {rejected}")
    try:
        back = host.roll_back(old, images)
    finally:
        host.run(f"iptables -D OUTPUT {rejected}")
    assert back.planned(Action.RECREATED) == set(images)
    status = host.status()
    assert {status.image_digest(each) for each in status.containers} == set(old.images.values())
    assert status.drift == ()
    content = '{{index .Config.Labels "content"}}'
    shown = host.run(f"docker ps --quiet | xargs docker inspect --format '{content}'").split()
    assert shown == ["old"] * 3


def test_prune_removes_images_that_lost_their_tags(host: DockerHost) -> None:
    images = {"port": f"{LOCAL}:1"}
    for revision in (1, 2, 3):
        host.registry.push("acme/program:1", f"content {revision}")
        host.run(f"docker pull --quiet {LOCAL}:1")
        host.deploy(images, revision=revision)
    before = host.run("docker image ls --all --quiet --no-trunc | sort -u").split()
    script = render(Script("scripts/list_unused.sh", ("/opt/image-test",)), {})
    output = host.transport.run(host.address, script, timeout_s=30).stdout
    plan = make_prune_plan(sections.split(output), [LOCAL], 1)
    assert len(plan.images) == len(before) - 1 == 2
    with host.locked() as note:
        removed = repeat(
            "--image",
            (" ".join([each.id, *each.tags, *each.digests]) for each in plan.images),
        )
        words = ("--workdir", "/opt/image-test", "--note", note, *removed)
        script = render(Script("scripts/prune.sh", words), {})
        result = host.transport.run(host.address, script, timeout_s=30)
    assert "stays" not in result.stdout, result.stderr
    left = host.run("docker image ls --all --quiet --no-trunc | sort -u").split()
    assert set(left) == set(before) - {each.id for each in plan.images}


def test_nothing_is_stopped_on_a_host_whose_runtime_starts_nothing(host: DockerHost) -> None:
    for content in ("1", "2"):
        host.registry.push(f"acme/program:{content}", content)
    host.deploy({"port": f"{LOCAL}:1"})
    before = host.run("docker ps --all --format '{{.ID}} {{.Names}} {{.Status}}' | cut -c 1-60")
    host.run(
        f"cp {RUNC} {RUNC}.real; cat >{RUNC}.new <<'END'\n{BROKEN_RUNC}END\n"
        f"chmod +x {RUNC}.new; mv {RUNC}.new {RUNC}"
    )
    try:
        # Nothing is to be changed, so nothing is started.
        assert host.deploy({"port": f"{LOCAL}:1"}).comparison.is_empty
        with pytest.raises(HostNotReady) as caught:
            host.prepare({"port": f"{LOCAL}:2"})
    finally:
        host.run(f"mv {RUNC}.real {RUNC}")
    assert "reopen fd 8: permission denied" in caught.value.message
    assert "lxc-pve" in (caught.value.hint or "")
    after = host.run("docker ps --all --format '{{.ID}} {{.Names}} {{.Status}}' | cut -c 1-60")
    assert [line.split()[:3] for line in after.splitlines()] == [
        line.split()[:3] for line in before.splitlines()
    ]
    host.deploy({"port": f"{LOCAL}:2"})


def test_another_version_of_compose_is_named_before_anything_is_recreated(
    host: DockerHost,
) -> None:
    host.registry.push("acme/program:1", "1")
    host.registry.push("acme/program:2", "2")
    images = {"port": f"{LOCAL}:1"}
    version = host.run("docker compose version --short").strip().lstrip("v")
    host.deploy(images)
    host.run(
        f"cp {COMPOSE} {COMPOSE}.real; cat >{COMPOSE}.new <<'END'\n{OTHER_COMPOSE}END\n"
        f"chmod +x {COMPOSE}.new; mv {COMPOSE}.new {COMPOSE}"
    )
    note = f"Compose was {version} when these containers were made, and is 5.99.0 now"
    try:
        assert any(note in each for each in host.diff(images).notes)
        assert host.deploy(images).warnings == []
        deploy = host.prepare({"port": f"{LOCAL}:2"})
        deploy.deployment.cancel()
    finally:
        host.run(f"mv {COMPOSE}.real {COMPOSE}")
    assert any(note in each for each in deploy.warnings)


def test_the_disk_of_the_images_is_checked(host: DockerHost) -> None:
    plan = host.plan({"a": "one:1"})
    script = render(Script("scripts/check.sh", plan.check_options()), {})
    facts = host.transport.run(host.address, script, timeout_s=30).stdout
    store = host.run("docker info --format '{{.DriverStatus}}'")
    assert ("image_store_free_kb=" in facts) == ("io.containerd.snapshotter" in store)
    assert "docker_free_kb=" in facts
    assert "workdir_free_kb=" in facts
    directories = [disk.directory for disk in host.status().disks]
    assert ("/var/lib/containerd" in directories) <= ("io.containerd.snapshotter" in store)
