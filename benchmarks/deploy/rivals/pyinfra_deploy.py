"""pyinfra's deploy: files where they changed, then Compose, told its secrets on standard input."""

import os
import shlex

from pyinfra import host
from pyinfra.operations import files, server

it = host.data.described
workdir = it["workdir"]
# Where nothing is to change there is nothing to wait for.
job = os.environ["KIT_JOB"]
compose = f"docker compose -p {it['project']} -f {it['compose']} --env-file {it['env']}"
up = f"{compose} up -d --quiet-pull --remove-orphans {'' if job == 'up' else '--wait'}"
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
exported = ["main() { set -eu", *host.data.exports, f"cd {workdir}"]
if job == "first" and it["database"]:
    psql = 'exec psql -qX -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
    server.shell(
        name="Start the database",
        commands=["sh -s"],
        _stdin=[*exported, f"{up} db", "}", "main </dev/null"],
    )
    server.shell(
        name="Give its role the password",
        commands=[f"cd {workdir} && {compose} exec -T db sh -c {shlex.quote(psql)}"],
        _stdin=[host.data.password],
    )
server.shell(
    name="Compose",
    commands=["sh -s"],
    _stdin=[*exported, up, "}", "main </dev/null"],
)
