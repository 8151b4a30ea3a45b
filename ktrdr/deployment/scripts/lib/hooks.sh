# shellcheck shell=sh
# Hooks for the extensions of a stack. These functions do nothing. An extension follows them in the script
# that is sent, and redefines those that it needs.

# Set an option that only the extension knows.
#   stack_option OPTION VALUE
stack_option() { refuse_option "$1"; }

# Fail if the host cannot use the secrets, and change nothing.
inspect_secrets() { :; }

# Export the variables of Compose that depend on the secrets, and change nothing.
export_secret_settings() { :; }

# Export the same variables with their values in the current containers, if the secrets are unknown.
export_deployed_secret_settings() { :; }

# Export the secrets as the containers have them, after a restart of the host in mid-deploy. Fail if that cannot
# be done, as with files in memory, which are gone.
recall_secrets() { return 1; }

# Deliver and rotate secrets, before and after Compose changes the services. A hook that could not finish
# sets $incomplete, and the next deploy repeats everything.
before_up() { :; }
after_up() { :; }

# Print the name of each rotated secret on a line.
report_secrets() { :; }

# Remove the secrets in memory of a stack that is removed.
remove_secrets() { :; }
