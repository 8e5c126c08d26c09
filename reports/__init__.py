"""Pure readers of what CI tools write: bytes in, contracts out."""
