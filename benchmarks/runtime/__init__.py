"""`make bench-runtime`: queue, throughput, fleet, full tables and responsiveness of the runtime."""
