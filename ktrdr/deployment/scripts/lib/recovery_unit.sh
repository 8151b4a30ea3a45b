# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that include it
# Unit of systemd that goes on with a deploy after a restart of the host. Needs: $RECOVERY_UNIT_FILE

# Print the unit of a stack, which runs as the user that deploys.
#   print_recovery_unit WORKDIR USER
print_recovery_unit() {
    printf '%s\n' "$RECOVERY_UNIT_FILE" | sed \
        -e "s#@user@#$2#" -e "s#@workdir@#$(printf %s "$1" | sed 's/[#&\\]/\\&/g; s/%/%%/g')#"
}
