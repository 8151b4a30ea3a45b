# shellcheck shell=sh
# History of a host's deploys, in WORKDIR/.ktrdr/history.jsonl. It contains no secret.

# Print the events, or only the last LINES of them, oldest first.
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
