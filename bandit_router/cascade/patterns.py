"""Looking for a regular expression in an answer, for a bounded time."""

from __future__ import annotations

import regex

# Of one look. Nested repeats, as in (a+)+$, could take until the end of days, and hold the
# interpreter meanwhile; a sound expression takes milliseconds over the longest answer.
LONGEST_LOOK_S = 0.5


class PatternTooSlow(Exception):
    """An expression that could not be looked for in time."""


def is_in(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text; other threads go on meanwhile.

    The syntax is that of Python's re. Raises PatternTooSlow after LONGEST_LOOK_S.
    """
    try:
        found = regex.search(pattern, text, concurrent=True, timeout=LONGEST_LOOK_S)
    except TimeoutError:
        raise PatternTooSlow(
            f"pattern {pattern!r} took longer than {LONGEST_LOOK_S:g} s over "
            f"{len(text)} characters; avoid a repeat inside a repeat"
        ) from None
    return found is not None
