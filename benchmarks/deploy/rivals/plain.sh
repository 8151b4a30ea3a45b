#!/bin/sh
# A deploy with plain ssh, as a careful administrator would write it: one call to the vault, one script per
# host on standard input, all hosts in parallel, no secret in an argument list. No ControlMaster, because
# there is only one script per host.
#
#   plain.sh INPUTS up        only docker compose up -d
#   plain.sh INPUTS deploy    transfer files, pull missing images, start, wait until healthy: the core first,
#                             because the workers need it; with `at-once` all hosts in parallel
#   plain.sh INPUTS first     the same for new hosts: start the database first, and set the vault's password
#                             for its role
set -eu
inputs=$1 job=$2 order=${3:-core-first}

# The secrets of each host as lines of shell, in a variable named after the host.
eval "$(op item get "$BENCH_ITEM" --vault "$BENCH_VAULT" --format json | jq -r '
  def exports: to_entries | map("export \(.key)=\(.value | @sh)") | join("\n") | @sh;
  [.fields[] | select(.value) | {(.label): .value}] | add
  | {DB_USER: .db_username, DB_PASSWORD: .db_password, DOCKER_AUTH_CONFIG:
      ({auths: {"ghcr.io": {auth: ("ktrdr:" + .ghcr_token | @base64)}}} | tojson)} as $all
  | "core=\($all + {JWT_SECRET: .jwt_secret, GF_ADMIN_PASSWORD: .grafana_password} | exports)",
    "B=\($all + {WORKER_TOKEN: .worker_token_b} | exports)",
    "C=\($all + {WORKER_TOKEN: .worker_token_c} | exports)"')"

# Set the role's password over the socket, which needs no login, with the statement on standard input.
# shellcheck disable=SC2016 # the host's shell expands these variables
password='password() {
    quoted=$(printf %s "$DB_PASSWORD" | sed "s/'"'/''"'/g")
    printf "ALTER ROLE CURRENT_USER PASSWORD '"'%s'"';\n" "$quoted"
}'
psql="sh -c 'exec psql -qX -v ON_ERROR_STOP=1 -U \"\$POSTGRES_USER\" -d \"\$POSTGRES_DB\"'"

script() {
    key=$1 workdir=$2 compose="docker compose -p $3 -f $4 --env-file $5" first=
    up="$compose up -d"
    echo 'main() { set -eu'
    eval "printf '%s\n' \"\$$key\""
    cat "$inputs/$key/settings"
    if [ "$job" != up ]; then
        echo "mkdir -p $workdir && base64 -d <<'END' | tar -xzf - -C $workdir"
        base64 "$inputs/$key/files.tgz"
        printf 'END\n'
        up="$up --quiet-pull --remove-orphans --wait"
    fi
    case "$job:$key" in first:core) first="$up db; password | $compose exec -T db $psql" ;; esac
    printf '%s\n' "$password" "cd $workdir" "$first" "$up" '}' 'main </dev/null'
}

finish() {
    for job_and_key in $running; do
        wait "${job_and_key%:*}" || { cat "$inputs/${job_and_key#*:}/log" >&2 && exit 1; }
    done
    running=
}

running=
while read -r key name rest; do
    # shellcheck disable=SC2086 # the rest is split into words
    script "$key" $rest | ssh -F "$KTRDR_SSH_CONFIG" -o BatchMode=yes "$name" 'sh -s' \
        >"$inputs/$key/log" 2>&1 &
    running="$running $!:$key"
    case "$job:$order:$key" in deploy:core-first:core | first:core-first:core) finish ;; esac
done <"$inputs/hosts"
finish
