# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that it extends
# How the core is given its secrets: an extension of apply.sh and remove_stack.sh, behind core_secrets.sh. What
# has a memory of its own follows the vault: the database, and Grafana.
#
# Each part does nothing where nothing has changed and may be run again at any time, so that a deploy that
# was interrupted is finished by the next one. No secret stands in an argument list: they travel on
# standard input.

. ../../scripts/lib/memory_secrets.sh
INSTALL_SECRETS_SH=$(cat ../../scripts/install_secrets.sh)
REMOVE_SECRETS_SH=$(cat ../../scripts/remove_secrets.sh)
DATABASE_SH=$(cat ./database.sh)
ROLE_PASSWORD_SQL=$(cat ./role_password.sql)
GRAFANA_PASSWORD_PY=$(cat ./grafana_password.py)

role_change='' grafana_change=''

# Files in memory come first, then the role of the database, right behind which the backend is replaced.
before_up() {
    grafana_before=$(find_grafana)
    if has_service backend; then
        export_former_token_secret
    fi
    if secrets_are_in_memory && { has_service backend || has_service grafana; }; then
        {
            ! has_service backend || with_backend_files encode_secrets backend 10001
            ! has_service grafana || with_grafana_files encode_secrets grafana 472
        } | install_secrets
        export_fingerprints
    fi
    if has_service backend; then
        set_role_password
    fi
}

after_up() {
    if has_service grafana; then
        set_grafana_password
    fi
    if ! secrets_are_in_memory; then
        ! has_service backend || remove_secret_files backend
        ! has_service grafana || remove_secret_files grafana
    fi
}

# What a new database is given for the first time has not changed.
report_secrets() {
    [ -z "$role_change" ] || [ -z "$signed_with" ] || echo db_password
    [ -z "$tokens_change" ] || echo jwt_secret
    [ -z "$grafana_change" ] || echo "grafana_password $grafana_change"
}

remove_secrets() {
    remove_secret_files backend grafana
}

# --------------------------------------------------------------------------------------------- the database

# Give the role of the database the password that DB_PASSWORD_VERIFIER is of. The statements go over the
# server's own socket, which trusts whoever is in its container.
set_role_password() {
    if [ -z "$(find_database)" ]; then
        compose up --detach --pull never --no-deps db
    fi
    role_change=$(
        printf "\\\\set verifier '%s'\n%s\n" "$DB_PASSWORD_VERIFIER" "$ROLE_PASSWORD_SQL" |
            docker exec -i "$(find_database)" sh -c "$DATABASE_SH" database 60
    )
}

# Print the id of the database's container, if it runs.
find_database() {
    project_ps "$project" --quiet --filter label=com.docker.compose.service=db
}

# ---------------------------------------------------------------------------------------------------- Grafana

# Give Grafana's administrator the password GF_ADMIN_PASSWORD. Its container is looked at where it is new, as
# it is with every other password, or a deploy was not finished. Without a backend that runs, it cannot be,
# and the next deploy tries again.
set_grafana_password() {
    if [ -z "$was_unfinished" ] && [ "$grafana_before" = "$(find_grafana)" ]; then
        return 0
    fi
    answer=0
    printf %s "$GF_ADMIN_PASSWORD" | ask_grafana check || answer=$?
    if [ "$answer" = 3 ]; then
        # Grafana's own program takes one line, and a password may have several: so it sets a temporary
        # one, with which the API then sets the real one.
        temporary=$(head -c 24 /dev/urandom | base64)
        printf '%s\n' "$temporary" | docker exec -i -e GF_LOG_MODE=console "$project-grafana-1" \
            grafana cli admin reset-admin-password --password-from-stdin >/dev/null
        answer=0
        printf '%s\n%s' "$temporary" "$GF_ADMIN_PASSWORD" | ask_grafana set || answer=$?
        grafana_change=yes
    fi
    case $answer in
        0) ;;
        3)
            echo 'Grafana did not take the new password' >&2
            exit 1
            ;;
        *)
            grafana_change=unknown
            incomplete=yes
            ;;
    esac
}

# Check or set a password, which comes on standard input.
#   ask_grafana check|set
ask_grafana() {
    docker exec -i "$project-backend-1" python3 -I -S -c "$GRAFANA_PASSWORD_PY" "$1" 60
}

# Print the id of Grafana's container, if there is one.
find_grafana() {
    docker container inspect --format '{{.Id}}' "$project-grafana-1" 2>/dev/null || :
}
