"""What is measured, as programs that anybody can run again; see docs/benchmarks.md."""
