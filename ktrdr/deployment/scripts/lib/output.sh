# shellcheck shell=sh
# What a script tells its caller.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script because of an option that it does not know.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}
