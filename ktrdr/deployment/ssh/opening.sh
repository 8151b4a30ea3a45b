# shellcheck shell=sh disable=SC2086,SC2319 # words are split to see whether the shell does
# Name a shell that is no POSIX shell, and end it. First csh, by its variable cwd, before it reads anything
# that it does not understand; then zsh, by what it does with words, and by its own variable.
test "$?cwd" = 1 && @name@ && exit
ktrdr_words='a b'
set -- $ktrdr_words
if [ "$#$((1 + 1))" != 22 ] || [ -n "${ZSH_VERSION-}" ]; then
    @name@
    exit
fi
