# shellcheck shell=sh
# What a script tells its caller: facts, and sections that each begin with a title.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# Print a fact.
#   fact NAME VALUE
fact() {
    printf '%s=%s\n' "$1" "$2"
}

# End the script because of an option that it does not know.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}
