"""Worker: a process that claims operations, and the child process that runs them."""
