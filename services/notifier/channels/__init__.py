"""The ways to reach people, each behind one protocol."""
