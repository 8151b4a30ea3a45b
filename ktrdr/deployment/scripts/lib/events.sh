# shellcheck shell=sh
# Events of a host's history: one line of JSON each, in WORKDIR/.ktrdr/history.jsonl. They contain no secret.
# Lines are only appended.

# Append events, after a line that an interruption may have cut short, and write them to the disk.
#   append_events WORKDIR EVENT...
append_events() {
    history=$1/.ktrdr/history.jsonl
    umask 022
    [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"
    shift
    # End an incomplete last line, so that the new one is separate.
    [ ! -s "$history" ] || [ -z "$(tail -c 1 "$history")" ] || echo >>"$history"
    printf '%s\n' "$@" >>"$history"
    flush "$history" "${history%/*}"
}

# Write files or directories to the disk now, as far as this host's sync can.
#   flush PATH...
flush() {
    sync "$@" 2>/dev/null || :
}
