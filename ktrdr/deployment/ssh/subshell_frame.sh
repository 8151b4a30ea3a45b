# shellcheck shell=sh
# Run a script in a subshell, with an empty standard input.
{
    ktrdr_begin
    (
        trap - TERM EXIT USR1
        @script@
    ) </dev/null 2>&4 3<&- 4>&-
    ktrdr_done $?
}
