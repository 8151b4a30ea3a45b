#!/bin/sh
# A stand-in for Docker and Compose: answers as they do on a node where all runs as it is to be, and does
# nothing. It is as light as can be, since fifty nodes share this machine with whoever deploys to them: it
# sleeps for as long as Docker's programs take on a host of their own (docs/benchmarks.md has their times).
PATH=/usr/bin:/bin
image=ghcr.io/ktrdr/ktrdr-backend:$CROWD_TAG

container() { # ID SERVICE HASH
    printf '{"id":"%s","image":"sha256:1","name":"%s","restarts":0,' "$1" "$image"
    printf '"created":"2026-01-01T00:00:00.0Z","labels":{"com.docker.compose.service":"%s",' "$2"
    printf '"com.docker.compose.config-hash":"%s","com.docker.compose.image":"sha256:1"},' "$3"
    printf '"state":{"Status":"running","StartedAt":"2026-01-01T00:00:00.0Z","ExitCode":0,'
    # What the service said of itself when Docker checked its health.
    printf '"Health":{"Status":"healthy","Log":[{"Output":"'
    printf '{\\"version\\":\\"%s\\",\\"registered\\":true,\\"contracts\\":[]}"}]}}}\n' "$CROWD_TAG"
}

case "$*" in
info*) echo "28.3.0 v5.6.1 $CROWD_DIRECTORY" ;;
compose*' config --hash '*) printf 'backtest-worker-1 h1\ntraining-worker-1 h2\n' ;;
compose*) ;;
'image inspect --format'*)
    printf '{"id":"sha256:1","tags":["%s"],"digests":["%s@sha256:1"]}\n' "$image" "${image%:*}"
    ;;
image*) ;;
'ps --quiet'*|'ps --all --quiet'*status=exited*) ;;
'ps --all --quiet'*) printf 'c1\nc2\n' ;;
'ps --all --format'*) ;;
inspect*) container c1 backtest-worker-1 h1 && container c2 training-worker-1 h2 ;;
*) echo "the stand-in for Docker does not know: $*" >&2 && exit 64 ;;
esac

case "$*" in
compose*' config '*) exec sleep 0.1 ;;
compose*) exec sleep 0.05 ;;
info*) exec sleep 0.045 ;;
*) exec sleep 0.025 ;;
esac
