"""Makes what has a memory of its own follow the vault: the database, Grafana, and tokens.

Each part does nothing where nothing has changed and may be run again at any time, so that a deploy
that was interrupted is finished by the next one. No secret stands in an argument list: they travel
on standard input, or stay in variables of the shell.
"""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.scripts.script import quote, words
from ktrdr.deployment.scripts.sections import section

# What `carry_over` exports.
CARRIED_OVER: Final = ("JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_UNTIL")
# What was not finished yet, or ended in the middle: the next deploy goes through all of it again.
_UNFINISHED: Final = ".ktrdr-unfinished"
_READY_WITHIN_S: Final = 60

# The environment of a container, entry by entry, between marks that no value can hold. What it
# has from a file is read from the host's memory or, where only root may do that, by itself.
_RECALL: Final = """mark=$(cat /proc/sys/kernel/random/uuid)
environment_of() {
format="{{range .Config.Env}}$mark{{.}}{{end}}$mark"
docker container inspect --format "$format" "$1" 2>/dev/null || :
}
recall() {
case "$environment" in
*"$mark$1="*) recalled=${environment#*"$mark$1="}; recalled=${recalled%%"$mark"*} ;;
*"$mark$1_FILE="*) recall "$1_FILE"; recall_file "$recalled" ;;
*) recalled= ;;
esac
}
recall_file() {
kept=@directory@/backend/${1##*/}
recalled=$({ cat "$kept" || docker exec @backend@ cat "$1" || :; } 2>/dev/null; echo x)
recalled=${recalled%x}
}"""

_SAME_ROLE: Final = """environment=$(environment_of @db@)
recall POSTGRES_USER
[ -z "$recalled" ] || [ "$recalled" = "$DB_USER" ]"""

_CARRY_OVER: Final = """environment=$(environment_of @backend@)
recall JWT_SECRET; signed_with=$recalled
recall JWT_SECRET_PREVIOUS; JWT_SECRET_PREVIOUS=$recalled
recall JWT_SECRET_PREVIOUS_UNTIL; JWT_SECRET_PREVIOUS_UNTIL=$recalled
recall IMAGE_TAG
in_utc() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }
now=$(date +%s)
tokens_change=
if [ -n "$signed_with" ] && [ "$signed_with" != "$JWT_SECRET" ]; then
tokens_change=yes
JWT_SECRET_PREVIOUS=$signed_with
JWT_SECRET_PREVIOUS_UNTIL=$(in_utc $((now + @overlap@)))
elif [ "$recalled" != "$IMAGE_TAG" ] &&
expr "x$JWT_SECRET_PREVIOUS_UNTIL" '<' "x$(in_utc "$now")" >/dev/null; then
JWT_SECRET_PREVIOUS=
JWT_SECRET_PREVIOUS_UNTIL=
fi"""
_NO_OVERLAP: Final = """JWT_SECRET_PREVIOUS=
JWT_SECRET_PREVIOUS_UNTIL="""

# Runs in the database's container. The last line reads the statements from standard input.
_PSQL: Final = """waited=0
until pg_isready -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" </dev/null; do
waited=$((waited + 1))
if [ "$waited" -gt @attempts@ ]; then
echo 'the database does not accept connections' >&2
exit 1
fi
sleep 0.2
done
PGOPTIONS='-c log_statement=none -c log_duration=off -c log_min_duration_statement=-1
-c log_min_error_statement=panic' exec psql -qAtX -v ON_ERROR_STOP=1 \
-U "$POSTGRES_USER" -d "$POSTGRES_DB"
"""
# Over the server's own socket, which trusts whoever is in its container. It is given what it would
# make of the password itself, never the password.
_FOLLOW: Final = r"""SELECT rolpassword IS DISTINCT FROM :'verifier' AS differs
FROM pg_catalog.pg_authid WHERE rolname = CURRENT_USER \gset
\if :differs
ALTER ROLE CURRENT_USER PASSWORD :'verifier';
\echo changed
\endif"""
_ROLE: Final = r"""running_db() { @running_db@; }
if [ -z "$(running_db)" ]; then
@up_db@
fi
role_change=$(printf "\\\\set verifier '%s'\n%s\n" "$DB_PASSWORD_VERIFIER" @follow@ |
docker exec -i "$(running_db)" sh -c @psql@)"""

# Runs in the backend's container, which is in Grafana's network and has a Python. The password is
# all of standard input or, after a temporary one that is valid, what follows its line.
_ASK_GRAFANA: Final = """import base64, http.client, json, sys, time
known, wanted = "", sys.stdin.buffer.read().decode()
if sys.argv[1] == "set":
    known, _, wanted = wanted.partition("\\n")
def ask(method, path, password, body=None):
    login = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    server = http.client.HTTPConnection("grafana", 3000, timeout=10)
    server.request(method, path, json.dumps(body) if body else None, headers)
    return server.getresponse().status
deadline = time.monotonic() + @seconds@
while True:
    try:
        if known:
            body = {"oldPassword": known, "newPassword": wanted, "confirmNew": wanted}
            ask("PUT", "/api/user/password", known, body)
            known = ""
        status = ask("GET", "/api/org", wanted)
    except (OSError, http.client.HTTPException):
        status = 503
    if status < 500 or time.monotonic() > deadline:
        sys.exit({200: 0, 401: 3, 403: 3}.get(status, 4))
    time.sleep(0.3)
"""
# Grafana's own program takes one line, and a password may have several: so it sets a temporary one,
# with which the API then sets the real one.
_GRAFANA: Final = """ask_grafana() { docker exec -i @backend@ python3 -I -S -c @ask@ "$1"; }
grafana_change=
if [ -n "$unfinished" ] || [ "$grafana_was" != "$(@grafana_id@)" ]; then
answer=0
printf %s "$GF_ADMIN_PASSWORD" | ask_grafana check || answer=$?
if [ "$answer" = 3 ]; then
temporary=$(head -c 24 /dev/urandom | base64)
printf '%s\\n' "$temporary" | docker exec -i -e GF_LOG_MODE=console @grafana@ \
grafana cli admin reset-admin-password --password-from-stdin >/dev/null
answer=0
printf '%s\\n%s' "$temporary" "$GF_ADMIN_PASSWORD" | ask_grafana set || answer=$?
grafana_change=yes
fi
case $answer in
0) ;;
3) echo 'Grafana did not take the new password' >&2; exit 1 ;;
*) grafana_change=unknown ;;
esac
fi"""

# What a new database is given for the first time has not changed.
_REPORT: Final = """[ -z "${role_change-}" ] || [ -z "${signed_with-}" ] || echo db_password
[ -z "${tokens_change-}" ] || echo jwt_secret
[ -z "${grafana_change-}" ] || echo "grafana_password $grafana_change\""""


def recalling(project: str, directory: str) -> str:
    """Defines how to read what a container was started with.

    Args:
        project: The Compose project.
        directory: Where its secrets are files in the host's memory, if they are.
    """
    return _filled(_RECALL, backend=_name(project, "backend"), directory=quote(directory))


def same_role(project: str) -> str:
    """Fails where the database's role has another name than ``DB_USER``; needs `recalling`."""
    return _filled(_SAME_ROLE, db=_name(project, "db"))


def carry_over(project: str, overlap_s: int) -> str:
    """Exports what tokens were signed with before, and until when that is good; see `recalling`.

    Where the running backend signs with another secret than ``JWT_SECRET``, that is the previous
    one from now on. Otherwise both stay what they are, so that nothing changes; once their time is
    over they go with the next release, for which the backend is replaced anyway.

    Args:
        project: The Compose project.
        overlap_s: Seconds that the previous secret is good for; with 0 there is none, and one that
            still lasts is ended.
    """
    carry = _filled(_CARRY_OVER, backend=_name(project, "backend"), overlap=str(overlap_s))
    export = "export JWT_SECRET_PREVIOUS JWT_SECRET_PREVIOUS_UNTIL"
    return "\n".join([carry, *([] if overlap_s else [_NO_OVERLAP]), export])


def begin(workdir: str, project: str) -> str:
    """Notes that something is going to change, and what Grafana's container is at the moment."""
    note = quote(f"{workdir}/{_UNFINISHED}")
    grafana = _id_of(project, "grafana")
    return "\n".join(
        [
            f"mkdir -p {quote(workdir)}",
            f"unfinished=; [ ! -e {note} ] || unfinished=yes",
            f": >{note}",
            f"grafana_was=$({grafana})",
        ]
    )


def finish(workdir: str, *, whole: bool) -> str:
    """Takes the note back, and prints which secrets have changed, in a section ``rotated``.

    Args:
        workdir: Where the note is.
        whole: Whether all services were looked at; otherwise an older note stays.
    """
    note = quote(f"{workdir}/{_UNFINISHED}")
    keep = '[ "${grafana_change-}" = unknown ]'
    if not whole:
        keep += ' || [ -n "$unfinished" ]'
    return "\n".join([f"{keep} || rm -f {note}", section("rotated"), _REPORT])


def unfinished(workdir: str) -> str:
    """Prints a line, in a section ``unfinished``, where a deploy did not come to its end."""
    note = quote(f"{workdir}/{_UNFINISHED}")
    return f"{section('unfinished')}\n[ ! -e {note} ] || echo unfinished"


def database(project: str, up: str) -> str:
    """Gives the database's role the password that ``DB_PASSWORD_VERIFIER`` is of.

    Args:
        project: The Compose project.
        up: What starts the database, where it does not run.
    """
    labels = (f"com.docker.compose.project={project}", "com.docker.compose.service=db")
    filters = (word for label in labels for word in ("--filter", f"label={label}"))
    psql = _filled(_PSQL, attempts=str(_READY_WITHIN_S * 5))
    running = words("docker", "ps", "--quiet", *filters)
    return _filled(_ROLE, running_db=running, up_db=up, psql=quote(psql), follow=quote(_FOLLOW))


def grafana(project: str) -> str:
    """Gives Grafana's administrator the password ``GF_ADMIN_PASSWORD``; needs `begin`.

    Looked at where Grafana's container is new, as it is with every other password, or a deploy was
    not finished. Without a backend that runs, it cannot be, and the next deploy tries again.
    """
    return _filled(
        _GRAFANA,
        backend=_name(project, "backend"),
        grafana=_name(project, "grafana"),
        grafana_id=_id_of(project, "grafana"),
        ask=quote(_filled(_ASK_GRAFANA, seconds=str(_READY_WITHIN_S))),
    )


def _name(project: str, service: str) -> str:
    return quote(f"{project}-{service}-1")


def _id_of(project: str, service: str) -> str:
    inspect = words("docker", "container", "inspect", "--format", "{{.Id}}")
    return f"{inspect} {_name(project, service)} 2>/dev/null || :"


def _filled(template: str, **parts: str) -> str:
    """The template with each ``@name@`` replaced; braces mean something to shells and Docker."""
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template
