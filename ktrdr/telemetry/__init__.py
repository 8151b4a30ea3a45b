"""What the runtime tells about itself: logs, traces, metrics. Imported by entry points."""
