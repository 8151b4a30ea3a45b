# shellcheck shell=sh
# Facts about a host, one "NAME=VALUE" per line.

# Print a fact.
#   fact NAME VALUE
fact() {
    printf '%s=%s\n' "$1" "$2"
}
