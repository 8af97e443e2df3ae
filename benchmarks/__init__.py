"""Benchmarks: one list of operations (operations.py), each of which checks its own result before it is timed."""
