"""The door to the log: records what is observed, passes on what was recorded, keeps what died."""
