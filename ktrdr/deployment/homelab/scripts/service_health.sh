# shellcheck shell=sh
# Health documents of KTRDR's services: extension of the scripts that ask services.

CONTAINER_HEALTH_PY=$(cat ./container_health.py)

ask_service() {
    docker exec "$1" python3 -I -S -c "$CONTAINER_HEALTH_PY" 2>/dev/null </dev/null
}
