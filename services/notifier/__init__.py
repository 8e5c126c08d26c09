"""Tells people: matches rules against recorded facts and delivers to Slack and by mail."""
