#!/bin/sh
# Hand a deploy over to the host: start its supervisor, which outlives this connection, and print the output of
# the release's application. End with its exit code.
#
# Usage: start_deploy.sh WORKDIR PROJECT NOTE ID EVENT
# NOTE is that of the lock's owner, EVENT is appended to the history before anything changes. The program of the
# supervisor (supervise.sh) contains no secret: secrets reach it as exported variables. Fails with 74 if the lock
# was lost.
set -euf

. ./lib/output.sh
. ./lib/lock.sh
. ./lib/events.sh
. ./lib/supervision.sh
. ./lib/recovery_unit.sh
RECOVERY_UNIT_FILE=$(cat ./deploy-recovery.service)

# Have systemd go on with deploys at each start of the host. Without root rights, `ktrdr host prepare` has done it.
# The unit does nothing while no deploy is in progress.
enable_recovery() {
    unit=$project-recovery.service units=${KTRDR_ETC:-/etc}/systemd/system
    if [ -d "$units" ] && ! grep -qsxF -e "WorkingDirectory=$workdir" "$units/$unit"; then
        print_recovery_unit "$workdir" root >"$units/$unit"
        mkdir -p "$units/multi-user.target.wants"
        ln -sf "../$unit" "$units/multi-user.target.wants/$unit"
    fi
}

main() {
    workdir=$1 project=$2
    require_lock "$workdir" "$3"
    append_events "$workdir" "$5"
    forget_deploy "$workdir"
    deploy=$workdir/.ktrdr/deploy
    mkdir -p "$deploy"
    program >"$deploy/program.sh"
    : >"$deploy/undecided.$4"
    # They must survive a power failure.
    sync "$deploy/program.sh" "$deploy" "$workdir/.ktrdr" 2>/dev/null || :
    [ "$(id -u)" != 0 ] || enable_recovery || :
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
