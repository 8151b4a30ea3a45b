#!/bin/sh
# Supervise a deploy on its host: apply the release, and go back to the last good one unless the operator, or in
# a detached deploy the services' health, confirms it in time.
#
# Usage: supervise.sh run OUTPUT | apply|restore [recall] | resume [locked], each with OPTION VALUE...
#   run       supervise from the beginning; outputs go to the directory OUTPUT, in memory
#   apply     apply the release
#   restore   apply the former one; with "recall", both take the secrets from the containers
#   resume    go on after the supervisor was ended, as by a restart of the host; "locked" if the caller has the lock
# Options:
#   --workdir DIRECTORY, --project NAME   the stack
#   --id ID, --tag TAG             the deploy
#   --way-back TAG                 release to go back to; empty if there is none
#   --confirm-within SECONDS       time for the confirmation, after the release was applied
#   --healthy-within SECONDS       time for the services to become healthy
#   --detached yes|no              whether healthy services confirm the deploy
#   --recovery-note NOTE           note of the lock while the host goes back on its own
#   --ended EVENT                  end of the deploy, for the history; its outcome and duration are filled in
#   --back-begun EVENT, --back-ended EVENT   beginning and end of the rollback
#   --expect SERVICE, --expect-back SERVICE  services that must become healthy
# The frame of the program defines apply_new, keep_new and apply_old. They export their settings.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/lock.sh
. ./lib/events.sh
. ./lib/release_files.sh
. ./lib/pin.sh
. ./lib/project.sh
. ./lib/recreation.sh
. ./lib/recovery.sh
. ./lib/kept_releases.sh
. ./lib/supervision.sh
. ./lib/apply.sh

# Run the release's application, then wait for the decision.
supervise() {
    trap request USR1
    # A session without the lock has started this. Acquire the lock when its owner has ended.
    has_opened_lock "$workdir" self || exec 9>>"$workdir/.ktrdr/lock"
    read -r owner _ <"$workdir/.ktrdr/lock"
    # What was stopped before stays stopped. Containers that never started were created by an interrupted deploy.
    stopped_before=$(project_ps "$project" --all --quiet --filter status=exited) || stopped_before=
    printf '%s\n' "$stopped_before" >"$deploy/stopped"
    printf '%s %s\n' "$$" "$output" >"$deploy/supervisor"
    # From now on, nothing that fails, as on a full disk, may end the supervisor.
    set +e
    now
    began=$seconds
    announce "apply $tag"
    [ -n "$requested" ] || run_part apply
    announce "wait until healthy"
    if [ "$detached" = no ]; then
        await_confirmation
    elif [ "$exit_code" != 0 ]; then
        reason="the release could not be applied"
    elif await_health "$expected"; then
        confirm
    else
        reason="not all services became healthy within $healthy_within s"
    fi
    [ -z "$requested" ] || reason="the deploy failed"
    decide "$workdir" "$id" host || exit 0
    trap '' USR1
    requested=
    go_back
}

# End what runs, and go back.
request() {
    requested=yes
    [ -z "$part" ] || kill -s TERM -- "-$part"
}

# Wait until the operator confirms the deploy, which ends this process, or set $reason.
await_confirmation() {
    now
    deadline=$((seconds + confirm_within))
    while [ -z "$requested" ]; do
        if ! has_opened_lock "$workdir" "$owner"; then
            reason="the connection of the operator ended before the deploy was confirmed"
            return
        elif now && [ "$seconds" -ge "$deadline" ]; then
            reason="the deploy was not confirmed within $confirm_within s"
            return
        fi
        sleep 1 &
        # A signal ends the wait.
        wait "$!"
    done
}

# Confirm a detached deploy.
confirm() {
    decide "$workdir" "$id" host || exit 0
    keep_new
    append_events "$workdir" "$(complete_event "$ended" deployed '' "$began")"
    conclude
}

# Go back to the last good release. Without one, start what the deploy has stopped; after a restart of the host,
# finish the deploy, because the database may have a password already that the other services do not.
go_back() {
    if ! has_opened_lock "$workdir" "$owner"; then
        flock 9
        printf '%s %s\n' "$$" "$recovery_note" >"$workdir/.ktrdr/lock"
    fi
    outcome=failed
    if [ -n "$way_back" ]; then
        announce "go back to $way_back: $reason"
        now
        back_began=$seconds
        append_events "$workdir" "$(printf '%s\n' "$back_begun" |
            sed "s/\"at\":\"[^\"]*\"/\"at\":\"$(date -u +%Y-%m-%dT%H:%M:%S.000+00:00)\"/")"
        restore restore "$expected_back"
        problem=
        [ "$outcome" = deployed ] || problem="the host could not go back"
        append_events "$workdir" "$(complete_event "$back_ended" "$outcome" "$problem" "$back_began")"
    elif [ -n "$recall" ]; then
        announce "finish the deploy of $tag: $reason"
        restore apply "$expected"
    else
        announce "start what was stopped: $reason"
    fi
    # Something must run.
    [ "$outcome" = deployed ] || recover "$project" 180
    has_opened_lock "$workdir" "$owner" ||
        append_events "$workdir" "$(complete_event "$ended" failed "$reason" "$began")"
    conclude
}

# Apply a release, wait until it is healthy, and set $outcome. Try again if Docker stops meanwhile.
#   restore apply|restore SERVICES
restore() {
    for _ in 1 2 3; do
        wait_for_docker
        run_part "$1" ${recall:+"$recall"}
        if [ "$exit_code" = 0 ]; then
            ! await_health "$2" || outcome=deployed
            return
        fi
        sleep 2
    done
}

# Go on after the end of the supervisor.
#   resume [locked]
resume() {
    if [ -z "$1" ]; then
        exec 9>>"$workdir/.ktrdr/lock"
        flock 9
    fi
    # Another deploy may have come first.
    [ -e "$deploy/undecided.$id" ] || [ -e "$deploy/host.$id" ] || exit 0
    set +e
    if is_last_deploy; then
        owner=none output=$(make_output_directory) recall=recall
        stopped_before=$(cat "$deploy/stopped")
        printf '%s %s\n' "$$" "$output" >"$deploy/supervisor"
        wait_for_docker
        finish_recreation "$project" start
        reason="the host was restarted, or the deploy's supervisor ended, in mid-deploy"
        now
        began=$seconds
        go_back
    fi
    conclude
}

# Return whether the deploy, or the rollback from it, has not ended, and no other deploy has begun.
is_last_deploy() {
    case $(grep -E '"event":"(begun|ended)"' "$workdir/.ktrdr/history.jsonl" | tail -n 1) in
        *'"event":"ended","id":"'"$id"'"'*) return 1 ;;
        *'"id":"'"$id"*) return 0 ;;
        *) return 1 ;;
    esac
}

# Forget the deploy, and end.
conclude() {
    rm -rf "$deploy" ${output:+"$output"}
    exit 0
}

# Print an event with its outcome, reason and duration.
#   complete_event EVENT OUTCOME REASON BEGAN
complete_event() {
    now
    printf '%s\n' "$1" | sed \
        -e "s/\"outcome\":\"[^\"]*\"/\"outcome\":\"$2\"/" \
        -e "s/\"reason\":\"[^\"]*\"/\"reason\":\"$3\"/" \
        -e "s/\"duration_s\":[0-9.]*/\"duration_s\":$((seconds - $4))/"
}

# Set $seconds to a time that no change of the clock affects.
now() {
    read -r seconds _ </proc/uptime
    seconds=${seconds%%.*}
}

# Run a mode of this program in a process group of its own, without the lock, and set $exit_code. After a
# request, end it.
#   run_part MODE [ARGUMENT]
run_part() {
    part_output=$output/$1
    rm -f "$part_output.code"
    setsid sh "$deploy/program.sh" "$@" >"$part_output.out" 2>"$part_output.err" 9>&- &
    part=$!
    wait "$part"
    exit_code=$?
    if [ -n "$requested" ]; then
        # The first wait may have ended before the process.
        wait "$part"
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            kill -s 0 -- "-$part" || break
            sleep 1
        done
        kill -s KILL -- "-$part"
    fi
    part=
    echo "$exit_code" >"$part_output.new"
    mv "$part_output.new" "$part_output.code"
}

# Wait until all services are healthy in two queries without a restart in between, for at most $healthy_within
# seconds. Return whether they are.
#   await_health SERVICES
await_health() {
    now
    deadline=$((seconds + healthy_within)) former=
    while [ -z "$requested" ] && [ "$seconds" -lt "$deadline" ]; do
        # shellcheck disable=SC2046 # ids are words
        found=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}none{{end}} {{.Id}} {{.RestartCount}}' \
            $(project_ps "$project" --all --quiet)) || found=
        is_healthy=yes
        for service in $1; do
            printf '%s\n' "$found" | grep -qE "^$service running (healthy|none) " || is_healthy=
        done
        if [ -n "$is_healthy" ] && [ "$found" = "$former" ]; then return 0; fi
        former=${is_healthy:+$found}
        sleep 2
        now
    done
    return 1
}

# Wait for Docker, for at most 300 seconds.
wait_for_docker() {
    now
    deadline=$((seconds + 300))
    until docker version || [ "$seconds" -ge "$deadline" ]; do
        sleep 1
        now
    done >/dev/null 2>&1
}

main() {
    mode=$1 output='' recall='' locked=''
    shift
    case $mode:$1 in
        run:*) output=$1 && shift ;;
        *:recall) recall=$1 && shift ;;
        *:locked) locked=$1 && shift ;;
    esac
    requested='' part='' exit_code=1 reason='' workdir='' project='' id='' tag='' way_back='' detached=no
    confirm_within=0 healthy_within=0 recovery_note='' ended='' back_begun='' back_ended='' expected='' expected_back=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --project) project=$2 ;;
            --id) id=$2 ;;
            --tag) tag=$2 ;;
            --way-back) way_back=$2 ;;
            --confirm-within) confirm_within=$2 ;;
            --healthy-within) healthy_within=$2 ;;
            --detached) detached=$2 ;;
            --recovery-note) recovery_note=$2 ;;
            --ended) ended=$2 ;;
            --back-begun) back_begun=$2 ;;
            --back-ended) back_ended=$2 ;;
            --expect) expected="$expected $2" ;;
            --expect-back) expected_back="$expected_back $2" ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    deploy=$workdir/.ktrdr/deploy
    case $mode in
        run) supervise ;;
        apply) apply_new ;;
        restore) apply_old ;;
        resume) resume "$locked" ;;
    esac
}

main "$@"
