# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that it extends
# What the configuration of the core depends on beside the vault: an extension of fetch.sh, apply.sh and
# diff.sh. Nothing here changes the host. The former token secret stays in variables of the shell, and stands
# in no argument list.
#
# Takes the option
#   --token-overlap SECONDS   how long tokens signed with a former JWT_SECRET are good

. ../../scripts/lib/fingerprints.sh

token_overlap=0
tokens_change='' signed_with=''

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

# Run a command with the files that a service is given in memory: pairs of a name and a content.
with_backend_files() {
    "$@" \
        db_password "${DB_PASSWORD-}" \
        jwt_secret "${JWT_SECRET-}" \
        jwt_secret_previous "${JWT_SECRET_PREVIOUS-}" \
        jwt_secret_previous_until "${JWT_SECRET_PREVIOUS_UNTIL-}"
}

with_grafana_files() {
    "$@" admin_password "${GF_ADMIN_PASSWORD-}"
}

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

# ------------------------------------------------------------------------- what containers were started with

# Set $environment to that of a container: its entries between marks that no value can hold.
#   read_environment CONTAINER
read_environment() {
    [ -n "${mark-}" ] || read -r mark </proc/sys/kernel/random/uuid
    environment=$(
        docker container inspect --format "{{range .Config.Env}}$mark{{.}}{{end}}$mark" "$1" 2>/dev/null || :
    )
}

# Set $value to that of a variable in $environment. What a container has from a file is read from the host's
# memory or, where only root may do that, by the backend itself.
#   read_variable NAME
read_variable() {
    case $environment in
        *"$mark$1="*)
            value=${environment#*"$mark$1="}
            value=${value%%"$mark"*}
            ;;
        *"$mark$1_FILE="*)
            read_variable "$1_FILE"
            value=$(
                { cat "$secrets_directory/backend/${value##*/}" ||
                    docker exec "$project-backend-1" cat "$value" || :; } 2>/dev/null
                # A substitution drops the ends of lines at its end.
                echo x
            )
            value=${value%x}
            ;;
        *) value= ;;
    esac
}

# Fail where the role of the database has another name than DB_USER.
check_role() {
    read_environment "$project-db-1"
    read_variable POSTGRES_USER
    [ -z "$value" ] || [ "$value" = "$DB_USER" ]
}

# ------------------------------------------------------------------------------------------------- tokens

# Export what tokens were signed with before, and until when that is good. Where the running backend signs
# with another secret than JWT_SECRET, that is the previous one from now on. Otherwise both stay what they
# are, so that nothing changes; once their time is over they go with the next release, for which the backend
# is replaced anyway. With an overlap of 0 there is none, and one that still lasts is ended.
export_former_token_secret() {
    read_environment "$project-backend-1"
    read_variable JWT_SECRET
    signed_with=$value
    read_variable JWT_SECRET_PREVIOUS
    JWT_SECRET_PREVIOUS=$value
    read_variable JWT_SECRET_PREVIOUS_UNTIL
    JWT_SECRET_PREVIOUS_UNTIL=$value
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

# Print a time, given in seconds since 1970, as the backend reads it.
print_utc() {
    date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ
}
