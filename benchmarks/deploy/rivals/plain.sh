#!/bin/sh
# By hand, as somebody careful writes it: one call to the vault, one script a host on standard input,
# all hosts side by side, no secret in any argument list. ssh connects anew each time (no ControlMaster:
# there is only one script a host).
#
#   plain.sh KIT up        docker compose up -d, and nothing else
#   plain.sh KIT deploy    files in their place, images pulled where they are missing, up, healthy:
#                          the core first, as the workers need it; with `at-once` side by side
#   plain.sh KIT first     the same for new hosts: the database before all else, to give its role the
#                          vault's password
set -eu
kit=$1 job=$2 order=${3:-core-first}

# Each host's secrets as lines of shell, in a variable named after it.
eval "$(op item get "$KIT_ITEM" --vault "$KIT_VAULT" --format json | jq -r '
  def exports: to_entries | map("export \(.key)=\(.value | @sh)") | join("\n") | @sh;
  [.fields[] | select(.value) | {(.label): .value}] | add
  | {DB_USER: .db_username, DB_PASSWORD: .db_password, DOCKER_AUTH_CONFIG:
      ({auths: {"ghcr.io": {auth: ("ktrdr:" + .ghcr_token | @base64)}}} | tojson)} as $all
  | "core=\($all + {JWT_SECRET: .jwt_secret, GF_ADMIN_PASSWORD: .grafana_password} | exports)",
    "B=\($all + {WORKER_TOKEN: .worker_token_b} | exports)",
    "C=\($all + {WORKER_TOKEN: .worker_token_c} | exports)"')"

# The role's password, by the socket that trusts whoever is in the container, on standard input.
# shellcheck disable=SC2016 # the host's shell expands what stands in it
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
    cat "$kit/$key/settings"
    if [ "$job" != up ]; then
        echo "mkdir -p $workdir && base64 -d <<'END' | tar -xzf - -C $workdir"
        base64 "$kit/$key/files.tgz"
        printf 'END\n'
        up="$up --quiet-pull --remove-orphans --wait"
    fi
    case "$job:$key" in first:core) first="$up db; password | $compose exec -T db $psql" ;; esac
    printf '%s\n' "$password" "cd $workdir" "$first" "$up" '}' 'main </dev/null'
}

finish() {
    for each in $running; do
        wait "${each%:*}" || { cat "$kit/${each#*:}/log" >&2 && exit 1; }
    done
    running=
}

running=
while read -r key name rest; do
    # shellcheck disable=SC2086 # the rest is words
    script "$key" $rest | ssh -F "$KTRDR_SSH_CONFIG" -o BatchMode=yes "$name" 'sh -s' \
        >"$kit/$key/log" 2>&1 &
    running="$running $!:$key"
    case "$job:$order:$key" in deploy:core-first:core | first:core-first:core) finish ;; esac
done <"$kit/hosts"
finish
