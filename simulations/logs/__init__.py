"""Logged traffic: one row per decision, its schema, and where it comes from."""
