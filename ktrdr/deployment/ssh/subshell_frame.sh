# shellcheck shell=sh
# Run a script in a subshell, with an empty standard input, and without descriptor 9, which an inline
# script may have opened.
{
    ktrdr_begin
    (
        trap - TERM EXIT USR1
        @script@
    ) </dev/null 2>&4 3<&- 4>&- 9>&-
    ktrdr_done $?
}
