# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that it extends
# Secrets of the workers: extension of fetch.sh, apply.sh and diff.sh. It changes nothing on the host.

. ../../scripts/lib/fingerprints.sh
. ../../scripts/lib/container_environment.sh

recall_secrets() {
    ! secrets_are_in_memory || return 1
    container=$(project_ps "$project" --all --format '{{.Names}}' | head -n 1)
    read_environment "$container"
    # shellcheck disable=SC2086 # names of variables are words
    export_variables DB_USER DB_PASSWORD WORKER_TOKEN $further_secrets
    [ -n "$DB_PASSWORD" ]
}

# Run a command with the files of a worker in memory as arguments: pairs of name and content.
#   with_worker_files COMMAND [ARGUMENT...]
with_worker_files() {
    with_further_files "$@" db_password "${DB_PASSWORD-}" worker_token "${WORKER_TOKEN-}"
}

export_secret_settings() {
    secrets_are_in_memory || return 0
    WORKER_SECRETS=$(with_worker_files print_fingerprint worker)
    export WORKER_SECRETS
}

export_deployed_secret_settings() {
    secrets_are_in_memory || return 0
    WORKER_SECRETS=$(print_deployed_fingerprint worker)
    export WORKER_SECRETS
}
