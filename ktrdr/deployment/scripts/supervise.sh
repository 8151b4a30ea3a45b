#!/bin/sh
# Supervise a deploy on its host: apply the release, and go back to the last good one unless the operator, or in
# a detached deploy the services' health, confirms it in time.
#
# Usage: supervise.sh run OUTPUT | apply | restore [recall] | resume, each with OPTION VALUE...
#   run       supervise from the beginning; outputs go to the directory OUTPUT, in memory
#   apply     apply the release
#   restore   go back; with "recall", take the secrets from the containers
#   resume    go on after a restart of the host, which has ended the supervisor
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
#   --service SERVICE, --back-service SERVICE   services that must become healthy
# The frame of the program defines apply_new, keep_new and apply_old. They export their settings.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
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
    printf '%s %s\n' "$$" "$output" >"$deploy/supervisor"
    read -r owner _ <"$workdir/.ktrdr/lock"
    # What was stopped before stays stopped. Containers that never started were created by an interrupted deploy.
    stopped_before=$(project_ps "$project" --all --quiet --filter status=exited) || stopped_before=
    trap 'requested=yes' USR1
    announce "apply $tag"
    run_part apply
    applied_at=$(date +%s)
    announce "wait until healthy"
    if [ -z "$requested" ] && [ "$detached" = yes ]; then
        await_health "$services" && confirm
        reason="not all services became healthy within $healthy_within s"
    else
        await_confirmation
    fi
    go_back
}

# Wait until the operator confirms the deploy, which ends this process, or set $reason.
await_confirmation() {
    while [ -z "$requested" ]; do
        if owner_is_gone; then
            reason="the connection of the operator ended before the deploy was confirmed"
            return 0
        elif [ "$(($(date +%s) - applied_at))" -ge "$confirm_within" ]; then
            reason="the deploy was not confirmed within $confirm_within s"
            return 0
        fi
        sleep 1 &
        wait "$!" || :
    done
    reason="the deploy failed"
}

# Confirm a detached deploy.
confirm() {
    decide_on_host
    append_events "$workdir" "$(complete_event "$ended" deployed '' "$applied_at")"
    keep_new
    conclude deployed
}

# Go back to the last good release. Without one, start what the deploy has stopped.
go_back() {
    decide_on_host
    ! owner_is_gone || printf '%s %s\n' "$$" "$recovery_note" >"$workdir/.ktrdr/lock"
    outcome=failed
    if [ -n "$way_back" ]; then
        announce "go back to $way_back: $reason"
        began=$(date +%s)
        append_events "$workdir" "$(printf '%s\n' "$back_begun" |
            sed "s/\"at\":\"[^\"]*\"/\"at\":\"$(date -u +%Y-%m-%dT%H:%M:%S.000+00:00)\"/")"
        restore
        problem=
        [ "$outcome" = deployed ] || problem="the host could not go back: $(tail -n 1 "$output/restore.err" 2>/dev/null)"
        append_events "$workdir" "$(complete_event "$back_ended" "$outcome" "$problem" "$began")"
    else
        announce "start what was stopped: $reason"
    fi
    # Something must run.
    [ "$outcome" = deployed ] || recover "$project" 180 || :
    if owner_is_gone; then
        append_events "$workdir" "$(complete_event "$ended" failed "$reason" "${applied_at:-$(date +%s)}")"
    fi
    conclude "$outcome"
}

# Restore the last good release, and set $outcome. Try again if Docker stops meanwhile.
restore() {
    for _ in 1 2 3; do
        wait_for_docker
        run_part restore ${recall:+"$recall"}
        if [ "$exit_code" = 0 ]; then
            ! await_health "$back_services" || outcome=deployed
            return 0
        fi
        sleep 2
    done
}

# Go on after a restart of the host.
resume() {
    exec 9>>"$workdir/.ktrdr/lock"
    flock 9
    [ -e "$deploy/program.sh" ] || exit 0
    if [ -e "$deploy/decided/operator" ] || grep -F '"event":"ended"' "$workdir/.ktrdr/history.jsonl" | grep -qF "\"id\":\"$id\""; then
        rm -rf "$deploy"
        exit 0
    fi
    rm -rf "$deploy/decided"
    owner=none output=$(make_output_directory) recall=recall stopped_before=
    printf '%s %s\n' "$$" "$output" >"$deploy/supervisor"
    wait_for_docker
    finish_recreation "$project" start >/dev/null 2>&1 || :
    reason="the host was restarted in mid-deploy"
    go_back
}

# Decide the outcome here, unless the operator has just decided it: then end.
decide_on_host() {
    mkdir "$deploy/decided" 2>/dev/null || exit 0
    trap '' USR1
}

# Forget the deploy, leave the outcome to whoever follows it, and end.
#   conclude OUTCOME
conclude() {
    printf '%s\n' "$1" >"$output/outcome"
    rm -rf "$deploy"
    ! owner_is_gone || rm -rf "$output"
    exit 0
}

# Print an event with its outcome, reason and duration.
#   complete_event EVENT OUTCOME REASON BEGAN
complete_event() {
    reason_text=$(printf '%s' "$3" | tr -d '"\\&/' | tr '[:cntrl:]' ' ')
    printf '%s\n' "$1" | sed \
        -e "s/\"outcome\":\"[^\"]*\"/\"outcome\":\"$2\"/" \
        -e "s/\"reason\":\"\"/\"reason\":\"$reason_text\"/" \
        -e "s/\"duration_s\":[0-9.]*/\"duration_s\":$(($(date +%s) - $4))/"
}

# Return whether the shell that acquired the lock for the deploy has ended.
owner_is_gone() {
    [ "$(readlink "/proc/$owner/fd/9")" != "$(readlink -f "$workdir/.ktrdr/lock")" ]
}

# Run a mode of this program in a process group of its own, without the lock, and set $exit_code. End it if the
# deploy is to go back.
#   run_part MODE [ARGUMENT]
run_part() {
    part_output=$output/$1
    rm -f "$part_output.code"
    setsid sh "$deploy/program.sh" "$@" >"$part_output.out" 2>"$part_output.err" 9>&- &
    part=$!
    exit_code=0
    # A signal that is trapped ends the wait.
    wait "$part" || exit_code=$?
    if [ "$1" = apply ] && [ -n "$requested" ]; then
        kill -s TERM -- "-$part" 2>/dev/null || :
        wait "$part" || exit_code=$?
        end=$(($(date +%s) + 10))
        while kill -0 -- "-$part" 2>/dev/null && [ "$(date +%s)" -lt "$end" ]; do sleep 0.2; done
        kill -s KILL -- "-$part" 2>/dev/null || :
    fi
    echo "$exit_code" >"$part_output.new"
    mv "$part_output.new" "$part_output.code"
}

# Wait until all services are healthy in two queries, for at most $healthy_within seconds. Return whether they are.
#   await_health SERVICES
await_health() {
    end=$(($(date +%s) + healthy_within)) good_queries=0
    while [ "$(date +%s)" -lt "$end" ]; do
        case $(judge_health "$1") in
            healthy)
                good_queries=$((good_queries + 1))
                [ "$good_queries" -lt 2 ] || return 0
                ;;
            failed) return 1 ;;
            *) good_queries=0 ;;
        esac
        sleep 2
    done
    return 1
}

# Print "healthy", "waiting" or "failed".
#   judge_health SERVICES
judge_health() {
    # shellcheck disable=SC2046 # ids are words
    found=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}none{{end}} {{.RestartCount}}' \
        $(project_ps "$project" --all --quiet) 2>/dev/null) || found=
    verdict=healthy
    for service in $1; do
        # shellcheck disable=SC2046 # fields are words
        set -- $(printf '%s\n' "$found" | sed -n "s/^$service //p")
        case "${1-} ${2-}" in
            "running healthy" | "running none") [ "$3" -lt 3 ] || verdict=failed ;;
            "running unhealthy" | exited* | dead*) verdict=failed ;;
            *) [ "$verdict" = failed ] || verdict=waiting ;;
        esac
    done
    echo "$verdict"
}

# Wait for Docker, for at most 300 seconds.
wait_for_docker() {
    end=$(($(date +%s) + 300))
    until docker version >/dev/null 2>&1 || [ "$(date +%s)" -ge "$end" ]; do sleep 1; done
}

main() {
    mode=$1 output='' owner='' recall=''
    shift
    case $mode in run) output=$1 && shift ;; esac
    case $mode$1 in restorerecall) recall=$1 && shift ;; esac
    requested='' workdir='' project='' id='' tag='' way_back='' confirm_within=0 healthy_within=0 detached=no recovery_note=''
    ended='' back_begun='' back_ended='' services='' back_services=''
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
            --service) services="$services $2" ;;
            --back-service) back_services="$back_services $2" ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    deploy=$workdir/.ktrdr/deploy
    case $mode in
        run) supervise ;;
        apply) apply_new ;;
        restore) apply_old ;;
        resume) resume ;;
    esac
}

main "$@"
