# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that it extends
# Fingerprints of secrets that are delivered as files in memory (see memory_secrets.sh). Containers have the
# fingerprint of their secrets as a label, so that Compose replaces only the containers whose secrets have
# changed. A fingerprint depends on a random key, which is beside the secrets in memory and on no disk:
# without the key, a fingerprint reveals nothing. Needs: stack.sh

# Run a command with the files of the further secrets as its last arguments: pairs of name and content. A file
# has the name of its variable in lower case.
#   with_further_files COMMAND [ARGUMENT...]
with_further_files() {
    for variable in $further_secrets; do
        set -- "$@" "$(printf %s "$variable" | tr '[:upper:]' '[:lower:]')"
        eval "set -- \"\$@\" \"\${$variable-}\""
    done
    "$@"
}

# Print the fingerprint of a consumer's secrets, and change nothing. If the key or a file is missing, print
# "missing", which no container has.
#   print_fingerprint CONSUMER [FILE VALUE]...
print_fingerprint() {
    consumer_directory=$secrets_directory/$1
    shift
    values=$#
    # Replace the pairs with the values in the same order.
    while [ "$values" -gt 0 ]; do
        if [ ! -e "$secrets_directory/key" ] || [ ! -e "$consumer_directory/$1" ]; then
            echo missing
            return 0
        fi
        set -- "$@" "$2"
        shift 2
        values=$((values - 2))
    done
    secrets_key=
    read -r secrets_key 2>/dev/null <"$secrets_directory/key" || :
    for value; do
        printf '%s' "$secrets_key$value" | sha256sum
    done | sha256sum | cut -c 1-32
}

# Print the fingerprint in the label of a consumer's containers.
#   print_deployed_fingerprint CONSUMER
print_deployed_fingerprint() {
    docker ps --all \
        --filter "label=com.docker.compose.project=$project" \
        --filter "label=place.mynerd.ktrdr.secrets=$1" \
        --format '{{.Label "place.mynerd.ktrdr.secrets-fingerprint"}}' | tail -n 1
}
