#!/bin/sh
# Hand a deploy over to the host: start its supervisor, which outlives this connection, and print the output of
# the release's application. End with its exit code.
#
# Usage: start_deploy.sh WORKDIR PROJECT NOTE EVENT
# NOTE is that of the lock's owner, EVENT is appended to the history before anything changes. The program of the
# supervisor (supervise.sh) contains no secret: secrets reach it as exported variables. Fails with 74 if the lock
# was lost.
set -euf

. ./lib/output.sh
. ./lib/lock.sh
. ./lib/events.sh
. ./lib/supervision.sh
RECOVERY_SERVICE=$(cat ./deploy-recovery.service)

# Have systemd run the supervisor's program at the host's next start, if a power failure ends it. Without root
# rights, `ktrdr host prepare` has done it. The unit does nothing while no deploy is in progress.
enable_recovery() {
    units=${KTRDR_ETC:-/etc}/systemd/system
    [ "$(id -u)" = 0 ] && [ -d "$units" ] && [ ! -e "$units/multi-user.target.wants/$project-recovery.service" ] || return 0
    printf '%s\n' "$RECOVERY_SERVICE" | sed "s#@workdir@#$workdir#" >"$units/$project-recovery.service"
    mkdir -p "$units/multi-user.target.wants"
    ln -sf "../$project-recovery.service" "$units/multi-user.target.wants/$project-recovery.service"
}

main() {
    workdir=$1 project=$2
    require_lock "$workdir" "$3"
    append_events "$workdir" "$4"
    end_supervisor "$workdir"
    deploy=$workdir/.ktrdr/deploy
    rm -rf "$deploy"
    mkdir -p "$deploy"
    program >"$deploy/program.sh"
    enable_recovery
    output=$(make_output_directory)
    # Without a signal or an open file of the connection, its end does not end the supervisor.
    setsid sh "$deploy/program.sh" run "$output" </dev/null >/dev/null 2>&1 3<&- 4>&- &
    followed=$!
    # From now on, the supervisor holds the lock besides the session's shell.
    exec 9>&-
    code=0
    follow "$output/apply" "$followed" || code=$?
    [ "$code" != 70 ] || echo "the deploy's supervisor on the host has ended" >&2
    return "$code"
}

main "$@"
