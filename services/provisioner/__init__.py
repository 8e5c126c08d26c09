"""Scaffolds GitLab repositories from blueprints, step by step, never twice."""
