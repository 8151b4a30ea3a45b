# shellcheck shell=sh disable=SC2034 # shares variables with the scripts that it extends
# How the workers are given their secrets: an extension of apply.sh and remove_stack.sh, behind
# worker_secrets.sh.

. ../../scripts/lib/memory_secrets.sh
INSTALL_SECRETS_SH=$(cat ../../scripts/install_secrets.sh)
REMOVE_SECRETS_SH=$(cat ../../scripts/remove_secrets.sh)

before_up() {
    secrets_are_in_memory || return 0
    with_worker_files encode_secrets worker 10001 | install_secrets
    export_secret_settings
}

after_up() {
    secrets_are_in_memory || remove_secrets
}

remove_secrets() {
    remove_secret_files worker
}
