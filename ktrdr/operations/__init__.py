"""Life cycle of operations: submission, leases, checkpoints, retries, results."""
