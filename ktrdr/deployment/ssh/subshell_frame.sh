# shellcheck shell=sh
# Run a script in a subshell, with an empty standard input. Descriptor 9 is what an inline script
# has opened.
{
    ktrdr_begin
    (
        trap - TERM EXIT USR1
        @script@
    ) </dev/null 2>&4 3<&- 4>&- 9>&-
    ktrdr_done $?
}
