# shellcheck shell=sh
# Run a script in the session's own shell, which keeps the descriptor 9 that it opens.
{
    ktrdr_begin
    ktrdr_inline() {
        @script@
    }
    ktrdr_inline </dev/null 2>&4
    ktrdr_done $?
}
