"""Benchmarks of the runtime: queue, throughput, fleet, full tables and responsiveness."""
