# shellcheck shell=sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}
