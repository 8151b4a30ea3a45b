# shellcheck shell=sh
# History of a host's deploys, in WORKDIR/.ktrdr/history.jsonl, and what it refers to. It contains no secret.

# Print the archives of the kept configurations.
#   list_kept WORKDIR
list_kept() {
    ls "$1/.ktrdr/releases" 2>/dev/null || :
}

# Return whether a copy of the history has events that the history lacks. The share may not answer.
#   copy_is_ahead WORKDIR COPY
copy_is_ahead() {
    size=$(timeout -s KILL 5 stat -c %s "$2" 2>/dev/null) || return 1
    ! head -c "$size" "$1/.ktrdr/history.jsonl" 2>/dev/null | timeout -s KILL 5 cmp -s - "$2"
}

# Print the events, oldest first. With LINES, print only the last of them, and fewer actions, because these must
# not displace the deploys that a rollback needs.
#   read_history WORKDIR [LINES]
read_history() {
    history=$1/.ktrdr/history.jsonl
    if [ ! -e "$history" ]; then
        return 0
    elif [ -n "${2-}" ]; then
        awk -v lines="$2" '/"event":"action"/ { action[++actions] = $0; next } { deploy[++deploys] = $0 }
            END {
                for (i = deploys - lines + 1; i <= deploys; i++) if (i > 0) print deploy[i]
                for (i = actions - 19; i <= actions; i++) if (i > 0) print action[i]
            }' "$history"
    else
        cat "$history"
    fi
}
