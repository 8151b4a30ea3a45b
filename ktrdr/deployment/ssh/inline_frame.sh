# shellcheck shell=sh
# Run a script in the session's own shell, which keeps descriptor 9 if the script opens it.
{
    ktrdr_begin
    ktrdr_inline() {
        @script@
    }
    ktrdr_inline </dev/null 2>&4
    ktrdr_done $?
}
