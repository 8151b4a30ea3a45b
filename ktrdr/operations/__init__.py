"""The life of an operation: submitted, queued, leased, checkpointed, finished exactly once."""
