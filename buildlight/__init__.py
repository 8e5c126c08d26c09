"""The command: runs services, starts private servers, looks after a deployment."""
