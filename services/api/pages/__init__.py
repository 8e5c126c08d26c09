"""Pages for browsers, one file a noun."""
