"""Deploy with pyinfra: changed files, then Compose, with its secrets on standard input."""

import os
import shlex

from pyinfra import host
from pyinfra.operations import files, server

inputs = host.data.host_inputs
workdir = inputs["workdir"]
# Without changes there is nothing to wait for.
job = os.environ["BENCH_JOB"]
compose = f"docker compose -p {inputs['project']} -f {inputs['compose']} --env-file {inputs['env']}"
up = f"{compose} up -d --quiet-pull --remove-orphans {'' if job == 'up' else '--wait'}"
archive = files.put(
    name="Transfer the configuration",
    src=f"{host.data.inputs}/files.tgz",
    dest=f"{workdir}/.files.tgz",
)
server.shell(
    name="Extract the configuration",
    commands=[f"tar -xzf {workdir}/.files.tgz -C {workdir}"],
    _if=archive.did_change,
)
exported = ["main() { set -eu", *host.data.exports, f"cd {workdir}"]
if job == "first" and inputs["database"]:
    psql = 'exec psql -qX -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
    server.shell(
        name="Start the database",
        commands=["sh -s"],
        _stdin=[*exported, f"{up} db", "}", "main </dev/null"],
    )
    server.shell(
        name="Set the password of its role",
        commands=[f"cd {workdir} && {compose} exec -T db sh -c {shlex.quote(psql)}"],
        _stdin=[host.data.password],
    )
server.shell(
    name="Compose",
    commands=["sh -s"],
    _stdin=[*exported, up, "}", "main </dev/null"],
)
