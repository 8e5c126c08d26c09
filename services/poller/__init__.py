"""Watches CI providers and records what it sees."""
