"""Buildlight's public events and commands as typed data.

Everything another team needs to listen to Buildlight or to publish to it, and nothing more: pydantic is the
only dependency. `catalogue` lists every message; `envelope` is what each travels in; `routing` says where.
"""
