"""Offline: replay recorded outcomes, and show what a policy would have done."""
