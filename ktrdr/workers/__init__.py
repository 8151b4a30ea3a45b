"""A worker: a parent process that talks to everybody, and a child that computes."""
