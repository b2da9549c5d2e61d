"""Texts that the database can hold: Postgres has none with a NUL character in it.

A JSON column takes one and then fails every query that reads it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def check_storable(value: str) -> str:
    """The text as it is. Raises ValueError where it holds a NUL character."""
    if "\0" in value:
        raise ValueError("holds a NUL character, leave it out")
    return value


Storable = Annotated[str, AfterValidator(check_storable)]
