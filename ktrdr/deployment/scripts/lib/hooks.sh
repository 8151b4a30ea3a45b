# shellcheck shell=sh
# What a stack adds to the scripts of a deploy. These functions do nothing; an extension, which stands
# behind them in the script that is sent, defines those anew that it needs.

# Take an option that only the stack knows.
#   stack_option OPTION VALUE
stack_option() { refuse_option "$1"; }

# Fail where the host cannot be given these secrets; change nothing.
inspect_secrets() { :; }

# Export what Compose's configuration depends on beside the given secrets; change nothing.
export_secret_settings() { :; }

# Export the same as the present containers have it, where the secrets are not known.
export_deployed_secret_settings() { :; }

# Do what comes before Compose brings the stack into its new form, and what comes after it. A hook that
# could not finish its work sets $incomplete, and the next deploy goes through all of it again.
before_up() { :; }
after_up() { :; }

# Print which secrets have changed, a line each.
report_secrets() { :; }

# Remove what is left of the secrets of a stack that is taken down.
remove_secrets() { :; }
