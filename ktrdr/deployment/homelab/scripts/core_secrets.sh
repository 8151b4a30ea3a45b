# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that it extends
# Secrets of the core: extension of fetch.sh, apply.sh and diff.sh. It changes nothing on the host. The former
# token secret stays in variables of the shell, and is in no argument list.
#
# Option:
#   --token-overlap SECONDS   time that tokens signed with a former JWT_SECRET stay valid

. ../../scripts/lib/fingerprints.sh
. ../../scripts/lib/container_environment.sh
VERIFIER_PY=$(cat ./verifier.py)

token_overlap=0
tokens_change='' signed_with='' password_before=''

stack_option() {
    case $1 in
        --token-overlap) token_overlap=$2 ;;
        *) refuse_option "$1" ;;
    esac
}

inspect_secrets() {
    if has_service backend; then
        section role
        check_role
    fi
}

export_secret_settings() {
    if has_service backend; then
        export_former_token_secret
    fi
    if secrets_are_in_memory; then
        export_fingerprints
    fi
}

export_deployed_secret_settings() {
    secrets_are_in_memory || return 0
    if has_service backend; then
        BACKEND_SECRETS=$(print_deployed_fingerprint backend)
        export BACKEND_SECRETS
    fi
    if has_service grafana; then
        GRAFANA_SECRETS=$(print_deployed_fingerprint grafana)
        export GRAFANA_SECRETS
    fi
}

recall_secrets() {
    ! secrets_are_in_memory || return 1
    read_environment "$project-grafana-1"
    read_variable GF_SECURITY_ADMIN_PASSWORD
    export "GF_ADMIN_PASSWORD=$value"
    read_environment "$project-backend-1"
    # shellcheck disable=SC2086 # names of variables are words
    export_variables DB_USER DB_PASSWORD JWT_SECRET $further_secrets
    [ -n "$DB_PASSWORD" ] || return 1
    has_service backend || return 0
    # The database never receives the password itself.
    DB_PASSWORD_VERIFIER=$(
        printf %s "$DB_PASSWORD" | docker run --rm --interactive --network none --entrypoint python3 "$secrets_image" \
            -c "$VERIFIER_PY"
    )
    export DB_PASSWORD_VERIFIER
}

# Run a command with the files of the backend in memory as arguments: pairs of name and content.
#   with_backend_files COMMAND [ARGUMENT...]
with_backend_files() {
    with_further_files "$@" \
        db_password "${DB_PASSWORD-}" \
        jwt_secret "${JWT_SECRET-}" \
        jwt_secret_previous "${JWT_SECRET_PREVIOUS-}" \
        jwt_secret_previous_until "${JWT_SECRET_PREVIOUS_UNTIL-}"
}

# Run a command with the files of Grafana in memory as arguments.
#   with_grafana_files COMMAND [ARGUMENT...]
with_grafana_files() {
    "$@" admin_password "${GF_ADMIN_PASSWORD-}"
}

# Export the fingerprints of the secrets in memory, for the labels of the containers.
export_fingerprints() {
    if has_service backend; then
        BACKEND_SECRETS=$(with_backend_files print_fingerprint backend)
        export BACKEND_SECRETS
    fi
    if has_service grafana; then
        GRAFANA_SECRETS=$(with_grafana_files print_fingerprint grafana)
        export GRAFANA_SECRETS
    fi
}

# Fail if the database's role has another name than DB_USER.
check_role() {
    read_environment "$project-db-1"
    read_variable POSTGRES_USER
    [ -z "$value" ] || [ "$value" = "$DB_USER" ]
}

# ------------------------------------------------------------------------------------------------- tokens

# Export the previous token secret, and the end of its validity. If the running backend signs with another
# secret than JWT_SECRET, that one becomes the previous secret. Otherwise both stay unchanged, so that
# nothing restarts. After the end of its validity, the next release removes it, because it replaces the
# backend anyway. An overlap of 0 also ends a current overlap.
export_former_token_secret() {
    read_environment "$project-backend-1"
    read_variable JWT_SECRET
    signed_with=$value
    read_variable JWT_SECRET_PREVIOUS
    JWT_SECRET_PREVIOUS=$value
    read_variable JWT_SECRET_PREVIOUS_UNTIL
    JWT_SECRET_PREVIOUS_UNTIL=$value
    read_variable DB_PASSWORD
    password_before=$value
    read_variable IMAGE_TAG
    now=$(date +%s)
    if [ -n "$signed_with" ] && [ "$signed_with" != "$JWT_SECRET" ]; then
        tokens_change=yes
        JWT_SECRET_PREVIOUS=$signed_with
        JWT_SECRET_PREVIOUS_UNTIL=$(print_utc $((now + token_overlap)))
    elif [ "$value" != "$IMAGE_TAG" ] &&
        expr "x$JWT_SECRET_PREVIOUS_UNTIL" '<' "x$(print_utc "$now")" >/dev/null; then
        JWT_SECRET_PREVIOUS=
        JWT_SECRET_PREVIOUS_UNTIL=
    fi
    if [ "$token_overlap" = 0 ]; then
        JWT_SECRET_PREVIOUS=
        JWT_SECRET_PREVIOUS_UNTIL=
    fi
    export JWT_SECRET_PREVIOUS JWT_SECRET_PREVIOUS_UNTIL
}

# Print a time, given in seconds since 1970, in the backend's format.
#   print_utc SECONDS
print_utc() {
    date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ
}
