"""Benchmarks against peers and limits, one file a question."""
