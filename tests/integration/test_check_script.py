"""Facts about a host, as ``check.sh`` prints them in a real shell on this machine."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import Script, render
from tests.integration.confinement import (
    OPEN_BY_HANDLE_AT,
    enter_user_namespace,
    refuse_open_by_handle_at,
)
from tests.unit.deployment.shell import SHELLS

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or OPEN_BY_HANDLE_AT is None, reason="needs root on x86-64 or ARM64"
)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request) -> list[str]:
    return [*request.param, "-s"]


def facts(
    shell: list[str],
    workdir: object,
    shared: object,
    *more: str,
    shared_is_mounted: bool = False,
    prepare: Callable[[], None] | None = None,
) -> dict[str, str]:
    arguments = (
        *("--workdir", str(workdir), "--shared", str(shared), "--container-uid", "10001"),
        *("--shared-is-mounted", "yes" if shared_is_mounted else "no", *more),
    )
    script = render(Script("scripts/check.sh", arguments), {}).reveal()
    done = subprocess.run(
        shell,
        input=script,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        preexec_fn=prepare,
    )
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)


def test_one_script_prints_all_facts(shell, tmp_path: Path) -> None:
    found = facts(shell, tmp_path / "new/work dir", tmp_path)
    assert found["workdir"] == "writable"
    assert found["shared"] in ("writable", "not-writable")
    assert int(found["clock"]) > 1_700_000_000
    assert int(found["workdir_free_kb"]) > 0
    assert found["user"] == getpass.getuser()
    assert not (tmp_path / "new").exists(), "the check changes nothing"


@pytest.mark.parametrize(
    ("store", "expected"),
    [("io.containerd.snapshotter.v1", {"docker", "image_store", "workdir"}), ("", None)],
)
def test_the_disk_of_containerds_image_store_is_measured_if_docker_uses_it(
    shell, tmp_path: Path, monkeypatch, store, expected
) -> None:
    # As if containerd's configuration named another directory.
    for name, answer in {
        "docker": f"28.5.2+dfsg4 v5.6.1 {store} {tmp_path}",
        "sed": str(tmp_path),
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = facts(shell, tmp_path, tmp_path)
    assert (found["docker"], found["compose"]) == ("28.5.2+dfsg4", "v5.6.1")
    measured = {name.removesuffix("_free_kb") for name in found if name.endswith("_free_kb")}
    assert measured == (expected or {"docker", "workdir"})


def test_another_user_than_root_is_named_and_has_fewer_permissions(shell, monkeypatch) -> None:
    # Another user than root, even if root runs the tests.
    as_user = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"]
    monkeypatch.setenv("USER", "ann")
    found = facts([*(as_user if os.geteuid() == 0 else []), *shell], "/tmp", "/")
    assert found["user"] == "ann"
    assert found["workdir"] == "writable"
    assert found["shared"] == "not-writable"


def test_a_file_in_the_place_of_a_directory_is_reported(shell, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = facts(shell, tmp_path / "file/inside", tmp_path / "no", shared_is_mounted=True)
    assert found["workdir"] == "not-a-directory"
    assert found["shared"] == "missing"


def test_a_directory_is_writable_only_if_a_file_can_be_created(shell, tmp_path: Path) -> None:
    found = facts(shell, "/proc/ktrdr", tmp_path)
    assert found["workdir"] == "not-writable", "root has permission, and cannot write all the same"
    assert facts(shell, tmp_path, tmp_path)["workdir"] == "writable"
    assert list(tmp_path.iterdir()) == [], "the probe is gone"


def test_an_empty_directory_of_the_hosts_own_disk_is_not_a_mount(shell, tmp_path: Path) -> None:
    on_root = Path("/").stat().st_dev == tmp_path.stat().st_dev
    found = facts(shell, "/tmp", tmp_path, shared_is_mounted=True)
    assert (found["shared"] == "not-mounted") == on_root


@needs_root
def test_a_bind_mount_of_the_same_device_is_a_mount(shell, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "with space"
    source.mkdir()
    target.mkdir()
    mount = f'mount --bind "{source}" "{target}" && exec "$@"'
    in_mount_namespace = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    assert facts([*in_mount_namespace, *shell], "/tmp", target, shared_is_mounted=True)[
        "shared"
    ] in ("writable", "not-writable")
    beside = facts([*in_mount_namespace, *shell], "/tmp", source, shared_is_mounted=True)
    assert beside["shared"] == "not-mounted"


@pytest.mark.parametrize("content", [".ktrdr-share", "data"])
def test_a_directory_with_data_or_the_mark_of_the_backend_is_in_use(
    shell, tmp_path: Path, content: str
) -> None:
    (tmp_path / content).mkdir()
    found = facts(shell, "/tmp", tmp_path, shared_is_mounted=True)
    assert found["shared"] in ("writable", "not-writable")


@needs_root
def test_a_host_on_which_files_can_be_opened_by_handle_can_run_an_nfs_server(shell) -> None:
    assert facts(shell, "/tmp", "/tmp")["handles"] == "opened"
    # A file system without handles.
    assert facts(shell, "/tmp", "/proc")["handles"] == "Operation not supported"
    assert "handles" not in facts(shell, "/tmp", "/tmp", shared_is_mounted=True)


@needs_root
def test_a_host_whose_seccomp_profile_refuses_the_call_cannot_run_an_nfs_server(shell) -> None:
    found = facts(shell, "/tmp", "/tmp/missing", prepare=refuse_open_by_handle_at)
    assert found["handles"] == "Operation not permitted"


@needs_root
def test_an_unprivileged_container_cannot_run_an_nfs_server_and_names_the_owner(shell) -> None:
    found = facts(shell, "/tmp", "/tmp", prepare=enter_user_namespace)
    assert (found["handles"], found["owner"]) == ("Operation not permitted", "110001")


@needs_root
def test_a_user_without_the_capability_learns_no_more_than_the_kernel_tells(shell) -> None:
    as_user = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"]
    # Kernels before 6.11 notice the missing capability first.
    assert facts([*as_user, *shell], "/tmp", "/tmp")["handles"] in ("opened", "unknown")
    refused = facts([*as_user, *shell], "/tmp", "/tmp", prepare=refuse_open_by_handle_at)
    assert refused["handles"] == "unknown"


def test_without_perl_nothing_is_known(shell, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "perl").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "perl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert facts(shell, "/tmp", "/tmp")["handles"] == "unknown"


def test_the_owner_is_the_same_user_outside_containers(shell) -> None:
    assert facts(shell, "/tmp", "/tmp")["owner"] == "10001"


def test_the_file_system_for_secrets_and_swap_are_printed(shell) -> None:
    found = facts(shell, "/tmp", "/tmp", "--memory", "/run/ktrdr")
    assert found["memory"]
    assert found["swap"]
    assert "memory" not in facts(shell, "/tmp", "/tmp")


ANSWER = "28.2.2 v2.40.3 /var/lib/docker"
CONFIG = "/home/deploy/.docker/config.json"
UNREADABLE = f"loading config file: open {CONFIG}: permission denied"
BROKEN = f"parsing config file ({CONFIG}): unexpected end of JSON input"
DAEMON = "Is the docker daemon running?"


def docker_facts(
    shell: list[str], directory: Path, monkeypatch: pytest.MonkeyPatch, err: str, out: str
) -> dict[str, str]:
    """Return the facts of a host whose Docker prints this."""
    docker = directory / "bin/docker"
    docker.parent.mkdir()
    (directory / "err").write_text(err)
    (directory / "out").write_text(out)
    docker.write_text(f"#!/bin/sh\ncat {directory}/err >&2\ncat {directory}/out\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    return facts(shell, "/tmp", "/tmp")


@pytest.mark.parametrize(
    ("warnings", "warning"),
    [
        ("", None),
        (f"WARNING: Error {UNREADABLE}\n", UNREADABLE),
        (f"WARNING: Error {BROKEN}\n", BROKEN),
        ('WARNING: Plugin "/x/docker-scan" is not valid: failed to fetch metadata: exit 1\n', None),
        ("time=x level=warning msg=something\nDEPRECATED: something\n", None),
        ("WARNING: No swap limit support\nWARNING: bridge-nf-call-iptables is disabled\n", None),
    ],
)
def test_a_warning_of_docker_is_not_taken_for_its_answer(
    shell, tmp_path: Path, monkeypatch, warnings: str, warning: str | None
) -> None:
    found = docker_facts(shell, tmp_path, monkeypatch, warnings, f"{ANSWER}\n")
    assert (found["docker"], found["compose"]) == ("28.2.2", "v2.40.3")
    assert found.get("docker_warning") == warning


SOCKET = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (f"Cannot connect to the Docker daemon at {SOCKET}. {DAEMON}", "down"),
        (f"failed to connect to the docker API at {SOCKET}; check the path", "down"),
        (f"Got permission denied while trying to connect to the Docker daemon socket at {SOCKET}",
         "forbidden"),
        (f"permission denied while trying to connect to the docker API at {SOCKET}", "forbidden"),
        ('current context "old" is not found on the file system',
         'error current context "old" is not found on the file system'),
        ("", "error"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("warnings", ["", f"WARNING: Error {UNREADABLE}\n"], ids=["", "warns"])
def test_what_docker_complains_of_is_found_among_warnings(
    shell, tmp_path: Path, monkeypatch, warnings: str, error: str, state: str
) -> None:
    # Docker fills in what it knows of the answer, even without a daemon.
    found = docker_facts(shell, tmp_path, monkeypatch, f"{warnings}{error}\n", " 2.40.3 \n")
    assert found["docker"].strip() == state


def can_mount() -> bool:
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs permission to mount")


def after(shell: list[str], command: str) -> list[str]:
    """Return the shell of a host that sees what a command mounts."""
    return ["unshare", "--mount", "sh", "-c", f'{command} && exec "$@"', "sh", *shell]


@needs_mounts
@pytest.mark.parametrize(
    ("line", "swap"),
    [
        ("", "none"),
        (f"none{' ' * 36}virtual\t\t524288\t0\t0\n", "virtual"),
        ("/dev/zram0                              partition\t8388604\t0\t100\n", "none"),
        ("/dev/sda2                               partition\t8388604\t0\t-2\n", "/dev/sda2"),
        ("/swapfile                               file\t8388604\t0\t-2\n", "/swapfile"),
    ],
)
def test_swap_is_found_as_the_kernel_and_as_lxcfs_show_it(
    shell, tmp_path: Path, line: str, swap: str
) -> None:
    (tmp_path / "swaps").write_text(f"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n{line}")
    faked = after(shell, f"mount --bind {tmp_path}/swaps /proc/swaps")
    assert facts(faked, "/tmp", "/tmp", "--memory", "/dev/shm")["swap"] == swap


@pytest.mark.parametrize(
    ("answer", "kind"), [("echo lxc", "lxc"), ("echo none; exit 1", ""), ("exit 127", "")]
)
def test_systemd_tells_whether_the_host_is_a_container(shell, programs, answer, kind) -> None:
    write_program(programs / "systemd-detect-virt", answer)
    assert facts(shell, "/tmp", "/tmp")["container"] == kind


def test_ports_lock_and_connections_are_printed_on_request(shell, tmp_path: Path) -> None:
    # No program listens on port 1.
    found = facts(shell, tmp_path, "/tmp", "--ports", "yes", "--reach", "127.0.0.1:1")
    assert "listening" in found
    assert found["lock"].strip() == "free"
    assert found["reaches 127.0.0.1:1"].startswith("1 ")
    assert "refused" in found["reaches 127.0.0.1:1"]


def test_the_history_and_what_it_refers_to_are_printed_on_request(shell, tmp_path: Path) -> None:
    records = tmp_path / ".ktrdr"
    (records / "releases").mkdir(parents=True)
    (records / "releases" / "abc.tar.gz").touch()
    (records / "history.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    found = facts(shell, tmp_path, "/tmp", "--ports", "yes")
    assert found["history"] == '{"a": 1}\t{"b": 2}\t'
    assert found["kept"].split() == ["abc.tar.gz"]
    assert "projects" in found


def test_a_history_that_lacks_events_of_its_copy_is_noticed(shell, tmp_path: Path) -> None:
    copy, history = tmp_path / "copy", tmp_path / ".ktrdr" / "history.jsonl"

    def state() -> str | None:
        return facts(shell, tmp_path, "/tmp", "--copy", str(copy), "--ports", "yes").get("copy")

    assert state() is None, "without a copy"
    copy.write_text("1\n2\n")
    assert state() == "ahead", "without a history"
    history.parent.mkdir()
    for content, expected in (("1\n", "ahead"), ("3\n2\n1\n", "ahead"), ("1\n2\n3\n", None)):
        history.write_text(content)
        assert state() == expected


@pytest.fixture
def web() -> Iterator[int]:
    """Serve 503 on every path, and return the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503, self.headers["Host"] + self.path)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_status_of_the_url_that_the_containers_need_is_printed(shell, web) -> None:
    found = facts(shell, "/tmp", "/tmp", "--api", f"http 127.0.0.1 {web} /health")
    assert found["api"] == "503"
    found = facts(shell, "/tmp", "/tmp", "--api", f"https 127.0.0.1 {web} /health")
    assert found["api"] == "open"
    found = facts(shell, "/tmp", "/tmp", "--api", "http 127.0.0.1 1 /health")
    assert found["api"].startswith("- 1 ")
    assert found["api"].endswith("refused")


def test_a_host_is_recognised_under_another_name(shell) -> None:
    first, second = (facts(shell, "/tmp", "/tmp")["identity"] for _ in range(2))
    assert first == second
    assert len(first) > 4


def test_memory_and_processors_are_printed(shell) -> None:
    found = facts(shell, "/tmp", "/tmp")
    total = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert total
    assert found["memory_kb"] == total[1]
    assert found["processors"] == str(len(os.sched_getaffinity(0)))


# ------------------------------------------------------------------------------- names of hosts


@pytest.fixture
def resolver(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a prefix that runs a command with other files in /etc, and a DNS server.

    The server knows ``dns.lab.test``, and /etc/hosts ``Hosts.lab.test`` and ``hosts``.
    """
    namespaces = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "-n"]
    mount = "ip link set lo up && mount --bind {0}/hosts /etc/hosts && "
    mount += 'mount --bind {0}/resolv.conf /etc/resolv.conf && shift && exec "$@"'
    server = [sys.executable, str(Path(__file__).with_name("dns_server.py")), "dns.lab.test"]
    (tmp_path / "hosts").write_text("10.1.2.3\tother Hosts.lab.test\thosts\n")

    def run_with(nameserver: str = "127.0.0.1") -> list[str]:
        (tmp_path / "resolv.conf").write_text(f"nameserver {nameserver}\n")
        command = [*namespaces, "sh", "-ec", mount.format(tmp_path), "sh", "-", *server]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            pytest.skip("namespaces are not permitted here")
        return command

    return run_with


@pytest.mark.parametrize(
    ("more", "answers"),
    [
        (
            (),
            {
                "hosts.lab.test": "no",
                "hosts": "no",
                "printer.local": "no",
                # The host asks DNS servers for other names, as containers do.
                "dns.lab.test": None,
                "nowhere.lab.test": None,
            },
        ),
        # A check, unlike a deploy, asks them for every name that the host knows.
        (
            ("--ports", "yes"),
            {"dns.lab.test": "yes", "hosts.lab.test": "no", "nowhere.lab.test": None},
        ),
    ],
)
def test_names_that_only_the_host_knows_are_found(shell, resolver, more, answers) -> None:
    names = [word for name in answers for word in ("--resolve", name)]
    found = facts([*resolver(), *shell], "/tmp", "/tmp", *names, *more)
    assert {name: found.get(f"resolves {name}") for name in answers} == answers


def test_a_name_that_dns_servers_know_as_well_is_good(shell, resolver, tmp_path) -> None:
    command = resolver()
    (tmp_path / "hosts").write_text("10.1.2.3 dns.lab.test\n")
    found = facts([*command, *shell], "/tmp", "/tmp", "--resolve", "dns.lab.test")
    assert found["resolves dns.lab.test"] == "yes"


@pytest.mark.parametrize(("code", "answer"), [(0, "yes"), (1, "no"), (127, "unknown")])
def test_systemd_resolved_is_asked_without_what_it_adds(
    shell, resolver, tmp_path, monkeypatch, code, answer
) -> None:
    """Its own server answers from /etc/hosts, and containers do not ask it."""
    (tmp_path / "resolvectl").write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\nexit {code}\n')
    (tmp_path / "resolvectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = resolver("127.0.0.53")
    found = facts([*command, *shell], "/tmp", "/tmp", "--resolve", "hosts.lab.test")
    assert found["resolves hosts.lab.test"] == answer
    asked = (tmp_path / "asked").read_text()
    assert asked == "query --synthesize=no --protocol=dns hosts.lab.test\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch) -> Path:
    """Return a directory of programs that are found before those of this machine."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def write_program(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("root", "kind"),
    [
        ("/var/lib/docker", ""),
        ("/mnt/disk/docker", ""),
        ("/var/snap/docker/common/var-lib-docker", "snap"),
        ("/home/ann/.local/share/docker", "rootless"),
        ("/var/lib/containers/storage", "podman"),  # Docker's program, and the socket of Podman
    ],
)
def test_dockers_that_cannot_run_the_stacks_are_told_by_their_directory(
    shell, programs, root, kind
) -> None:
    write_program(programs / "docker", f'[ "$1" != info ] || echo "29.0.4 2.40.3 {root}"')
    found = facts(shell, "/tmp", "/tmp")
    assert (found["docker"], found["docker_kind"]) == ("29.0.4", kind)


def test_the_snap_is_told_by_its_program(shell, programs, tmp_path) -> None:
    write_program(tmp_path / "root/usr/bin/snap", "exit 1")
    (programs / "docker").symlink_to(tmp_path / "root/usr/bin/snap")
    assert facts(shell, "/tmp", "/tmp")["docker_kind"] == "snap"


def test_podman_in_the_place_of_docker_is_told_by_its_version(shell, programs) -> None:
    write_program(
        programs / "docker",
        'case $1 in --version) echo "podman version 5.4.2" ;; info) echo "Error: template" >&2; '
        "exit 125 ;; esac",
    )
    found = facts(shell, "/tmp", "/tmp")
    assert (found["docker"], found["docker_kind"]) == ("error Error: template", "podman")


def test_a_docker_that_does_not_respond_is_not_waited_for(shell, programs) -> None:
    write_program(programs / "timeout", "exit 137")
    write_program(programs / "docker", "exit 0")
    assert facts(shell, "/tmp", "/tmp")["docker"] == "waiting"


def test_dockers_networks_and_the_routes_are_printed_on_request(shell, programs) -> None:
    write_program(
        programs / "docker",
        'case "$1 $2" in "network ls") echo 1 ;;',
        '"network inspect") echo "a 0123 - 172.19.0.0/16" ;; esac',
    )
    write_program(
        programs / "ip",
        "# A VPN has a table of its own.",
        'case $* in *"table all"*) ;; *) exit ;; esac',
        "cat <<END",
        "default via 10.0.0.1 dev eth0",
        "172.19.0.0/16 via 10.0.0.9 dev eth0 proto static",
        "100.64.0.7 dev tailscale0 table 52",
        "local 127.0.0.1 dev lo table local",
        "unreachable 10.9.0.0/16",
        "END",
    )
    found = facts(shell, "/tmp", "/tmp", "--ports", "yes")
    assert found["networks"] == "a 0123 - 172.19.0.0/16|"
    assert found["routes"] == "172.19.0.0/16 eth0|100.64.0.7 tailscale0|"
    assert "routes" not in facts(shell, "/tmp", "/tmp")
