"""pyinfra's deploy: files where they changed, then Compose, told its secrets on standard input."""

import os

from pyinfra import host
from pyinfra.operations import files, server

it = host.data.described
workdir = it["workdir"]
# Where nothing is to change there is nothing to wait for.
wait = "--wait" if os.environ["KIT_JOB"] == "deploy" else ""
shipped = files.put(
    name="Bring the configuration",
    src=f"{host.data.kit}/files.tgz",
    dest=f"{workdir}/.files.tgz",
)
server.shell(
    name="Put it into place",
    commands=[f"tar -xzf {workdir}/.files.tgz -C {workdir}"],
    _if=shipped.did_change,
)
server.shell(
    name="Compose",
    commands=["sh -s"],
    _stdin=[
        "main() { set -eu",
        *host.data.exports,
        f"cd {workdir}",
        f"docker compose -p {it['project']} -f {it['compose']} --env-file {it['env']} "
        f"up -d --quiet-pull --remove-orphans {wait}",
        "}",
        "main </dev/null",
    ],
)
