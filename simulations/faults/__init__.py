"""Models that fail in every way, on loopback, and what the router makes of it."""
