"""Telling flaky from broken: evidence, scorers, verdicts. Pure."""
