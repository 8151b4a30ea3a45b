# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that it extends
# Delivery of the core's secrets: extension of apply.sh, after core_secrets.sh, and of remove_stack.sh. It
# also rotates the passwords that the database and Grafana store.
#
# Each function does nothing if nothing has changed, and can be repeated at any time, so that the next deploy
# finishes an interrupted one. Secrets travel on standard input, and are in no argument list.

. ../../scripts/lib/memory_secrets.sh
INSTALL_SECRETS_SH=$(cat ../../scripts/install_secrets.sh)
REMOVE_SECRETS_SH=$(cat ../../scripts/remove_secrets.sh)
DATABASE_SH=$(cat ./database.sh)
ROLE_PASSWORD_SQL=$(cat ./role_password.sql)
GRAFANA_PASSWORD_PY=$(cat ./grafana_password.py)

role_change='' grafana_change=''

# Write files in memory first, then set the role's password, right before Compose replaces the backend.
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

# The first password of a new database is not a rotation, and neither is another salt of the same one, which
# JWT_SECRET changes.
report_secrets() {
    [ -z "$role_change" ] || [ -z "$signed_with" ] || [ "$password_before" = "$DB_PASSWORD" ] || echo db_password
    [ -z "$tokens_change" ] || echo jwt_secret
    [ -z "$grafana_change" ] || echo "grafana_password $grafana_change"
}

remove_secrets() {
    remove_secret_files backend grafana
}

# --------------------------------------------------------------------------------------------- the database

# Set the password of the database's role, from DB_PASSWORD_VERIFIER. The statements use the server's socket,
# which trusts all users in its container.
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

# Set the password of Grafana's administrator to GF_ADMIN_PASSWORD. A changed password recreates the
# container, so check only a new container, or after an unfinished deploy. The check needs a running backend.
# Without one, the next deploy tries again.
set_grafana_password() {
    if [ -z "$was_unfinished" ] && [ "$grafana_before" = "$(find_grafana)" ]; then
        return 0
    fi
    answer=0
    printf %s "$GF_ADMIN_PASSWORD" | ask_grafana check || answer=$?
    if [ "$answer" = 3 ]; then
        # Grafana's program reads one line, but a password may have several. So it sets a temporary
        # password, with which the API then sets the real one.
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

# Print the id of Grafana's container, if it exists.
find_grafana() {
    docker container inspect --format '{{.Id}}' "$project-grafana-1" 2>/dev/null || :
}
