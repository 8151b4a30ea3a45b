# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that include it
# A deploy in progress, in WORKDIR/.ktrdr/deploy: program.sh is the supervisor's program, `supervisor` contains
# its process id and the directory of its outputs, `phases` what it does, `stopped` the containers that stay so.
# undecided.ID becomes operator.ID or host.ID once one of them has decided the outcome. No file contains a secret.
# The output of Compose, which might, is in the host's memory.

# Decide the outcome of a deploy in progress, if nobody has decided it yet. Return whether this one has. A full
# disk still has room for a name.
#   decide WORKDIR ID operator|host
decide() {
    mv "$1/.ktrdr/deploy/undecided.$2" "$1/.ktrdr/deploy/$3.$2" 2>/dev/null
}

# Create a directory for outputs in memory, and print its name.
make_output_directory() {
    umask 077
    mktemp -d "$([ ! -d /dev/shm ] || echo /dev/shm/)ktrdr.XXXXXXXX"
}

# End the supervisor, if one runs, and forget its deploy: nothing goes on with it any more.
#   forget_deploy WORKDIR
forget_deploy() {
    if find_supervisor "$1"; then
        kill -s KILL -- "-$supervisor" 2>/dev/null || :
        while find_supervisor "$1"; do sleep 0.1; done
    fi
    rm -rf "$1/.ktrdr/deploy" ${output:+"$output"}
}

# Set $supervisor and $output, and return whether the supervisor runs. The system reuses process ids.
#   find_supervisor WORKDIR
find_supervisor() {
    supervisor='' output=''
    { read -r supervisor output <"$1/.ktrdr/deploy/supervisor"; } 2>/dev/null || return 1
    { tr '\0' ' ' <"/proc/$supervisor/cmdline"; } 2>/dev/null | grep -qF ".ktrdr/deploy/program.sh "
}

# Print what a process writes to NAME.out and NAME.err until NAME.code exists, and return that code. Return 70 if
# the supervisor ends before.
#   follow NAME SUPERVISOR
follow() {
    shown_out=0 shown_err=0
    while :; do
        state=running
        kill -0 "$2" 2>/dev/null || state=gone
        [ ! -e "$1.code" ] || state=ended
        print_new "$1.out" "$shown_out"
        shown_out=$size
        print_new "$1.err" "$shown_err" >&2
        shown_err=$size
        case $state in
            ended) return "$(cat "$1.code")" ;;
            gone) return 70 ;;
        esac
        sleep 0.1
    done
}

# Print the bytes of a file after the first ones, and set $size to its size.
#   print_new FILE SHOWN
print_new() {
    size=$({ wc -c <"$1"; } 2>/dev/null) || size=0
    [ "$size" -le "$2" ] || tail -c +"$(($2 + 1))" "$1" 2>/dev/null | head -c "$((size - $2))"
}

# Tell the operators what the supervisor does.
#   announce TEXT
announce() {
    printf '%s %s\n' "$(date +%s)" "$1" >>"$deploy/phases" || :
}
