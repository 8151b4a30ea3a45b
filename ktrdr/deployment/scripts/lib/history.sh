# shellcheck shell=sh
# What a host remembers of its deploys, in WORKDIR/.ktrdr/history.jsonl. Nothing of it is secret.

# Print the events, oldest first; with a number, only so many of the last.
#   read_history WORKDIR [LINES]
read_history() {
    history=$1/.ktrdr/history.jsonl
    if [ ! -e "$history" ]; then
        return 0
    elif [ -n "${2-}" ]; then
        tail -n "$2" "$history"
    else
        cat "$history"
    fi
}
