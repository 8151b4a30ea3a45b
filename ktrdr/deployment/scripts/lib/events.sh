# shellcheck shell=sh
# Events that a host remembers: a line of JSON each, in WORKDIR/.ktrdr/history.jsonl. Nothing of them is
# secret, and lines are only ever appended.

# Append events, after a line that an interruption may have cut short.
#   append_events WORKDIR EVENT...
append_events() {
    history=$1/.ktrdr/history.jsonl
    umask 022
    [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"
    shift
    # Only what ends with a line's end was written whole; what was not stays apart from the new one.
    [ ! -s "$history" ] || [ -z "$(tail -c 1 "$history")" ] || echo >>"$history"
    printf '%s\n' "$@" >>"$history"
}
