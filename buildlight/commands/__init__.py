"""The subcommands that need more than a few lines, one file a noun."""
