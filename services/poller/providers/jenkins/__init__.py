"""Jenkins."""
