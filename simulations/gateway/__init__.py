"""A gateway under load: the router beside a bare pass-through on the same upstream."""
