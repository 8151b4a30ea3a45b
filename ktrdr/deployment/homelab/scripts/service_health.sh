# shellcheck shell=sh
# How the services of KTRDR say how they are: an extension of every script that asks them.

CONTAINER_HEALTH_PY=$(cat ./container_health.py)

ask_service() {
    docker exec "$1" python3 -I -S -c "$CONTAINER_HEALTH_PY" 2>/dev/null </dev/null
}
