"""How the prompt looks: lengths, layout, scripts, constraints and what it asks for.

Fixed transforms only: nothing here was fitted to data. Lengths are centred on a typical prompt
and counted in fourfolds of it, counts are logarithms that are 0 when there is nothing, shares
are square roots, hints are 0 or 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandit_router.features.prompt import Prompt, read_prompt
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FeatureArray, RoutingRequest

_LIMIT = 3.0
# Character classes of ASCII: u upper, l lower, d digit, m mathematics, n newline, - the rest.
_CLASSES = bytes(
    ord(
        "u" if 65 <= code <= 90
        else "l" if 97 <= code <= 122
        else "d" if 48 <= code <= 57
        else "m" if chr(code) in "=+*/^<>%\\$"
        else "n" if code == 10
        else "-"
    )
    for code in range(256)
)  # fmt: skip
# The character class stands first and the look-behind last: so the scan for it is in C.
_OPTION = re.compile(r"[A-Ha-h1-8][).](?=\s)(?<!\w..)(?<!\w\(..)")
_WORD = re.compile(r"[a-z]+")
_ASKED_LENGTH = re.compile(r"\d+ (?:words|sentences|characters|lines)\b")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1fff\ufb1d-\ufdff\ufe70-\ufefc]")
_CODE_MARKS = (
    *("```", "def ", "#include", "=>", ";\n", "{\n", "}\n", "</", "\n    ", "\n\t", "print("),
    *("():", "();", "SELECT ", "\nimport ", "\nfrom "),
)
_CODE_WORDS = frozenset(["python", "javascript", "typescript", "java", "sql", "html", "css"])
_STRUCTURED_WORDS = frozenset(["json", "yaml", "xml", "csv"])
_BRIEF_PHRASES = (
    *(" one word ", " one sentence ", " single word ", " single sentence ", " a sentence "),
    *(" one paragraph ", " short answer ", " just the ", " only the ", " briefly ", " brief "),
    *(" concise ", " concisely "),
)
_STEP_PHRASES = (
    *(" step by step ", " show your ", " explain your ", " explain why ", " think carefully "),
    *(" in detail ", " each step ", " your reasoning "),
)
_REASONING_PHRASES = (
    *(" how many ", " how much ", " how long ", " how far ", " how old ", " sum of "),
    *(" if and only if ", " prove ", " proof ", " solve ", " calculate ", " compute "),
    *(" derive ", " determine ", " equation ", " probability ", " premise ", " evaluate "),
)
_QUESTION_WORDS = frozenset(
    [
        *("what", "which", "who", "whom", "whose", "when", "where", "why", "how"),
        *("is", "are", "do", "does", "did", "can", "could", "should"),
    ]
)
_WRITE_WORDS = frozenset(
    [
        *("write", "implement", "create", "generate", "draft", "compose", "build"),
        *("design", "develop", "code", "program"),
    ]
)
_TRANSFORM_WORDS = frozenset(
    [
        *("translate", "summarize", "summarise", "rewrite", "rephrase", "paraphrase"),
        *("classify", "extract", "correct", "sort", "convert", "edit", "proofread"),
        *("shorten", "reformat", "complete", "fix"),
    ]
)
_EXPLAIN_WORDS = frozenset(
    [
        *("explain", "describe", "compare", "discuss", "analyze", "analyse", "outline"),
        *("define", "teach", "elaborate"),
    ]
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One request with what several features share."""

    request: RoutingRequest
    prompt: Prompt
    text: str
    said: str
    classes: bytes
    words: list[str]
    opening: frozenset[str]
    vocabulary: frozenset[str]


def _see(request: RoutingRequest) -> _Seen:
    prompt = read_prompt(request)
    text = prompt.user_text
    words = _WORD.findall(text.lower())
    return _Seen(
        request=request,
        prompt=prompt,
        text=text,
        said=f" {' '.join(words)} ",
        classes=text.encode("ascii", "ignore").translate(_CLASSES),
        words=words,
        opening=frozenset(words[:3]),
        vocabulary=frozenset(words),
    )


def _length(count: float, typical: float) -> float:
    """0 at the typical length, +1 for every fourfold of it, within ±3."""
    return max(-_LIMIT, min(_LIMIT, math.log((1.0 + count) / (1.0 + typical), 4.0)))


def _count(count: float, several: float) -> float:
    """0 for none, 1 for several, growing as the logarithm, at most 3."""
    return min(_LIMIT, math.log1p(max(0.0, count)) / math.log1p(several))


def _share(part: float, whole: float) -> float:
    """The root of a share, doubled: a twentieth gives 0.45, a quarter 1."""
    return 2.0 * math.sqrt(min(1.0, part / whole)) if whole > 0 else 0.0


def _number(value: object) -> float:
    """A caller's number as a float within ±1e12; anything else is 0."""
    if isinstance(value, int):
        return float(max(-(10**12), min(10**12, value)))
    if isinstance(value, float) and math.isfinite(value):
        return max(-1e12, min(1e12, value))
    return 0.0


def _word_length(seen: _Seen) -> float:
    if not seen.words:
        return 0.0
    letters = sum(map(len, seen.words)) / len(seen.words)
    return max(-_LIMIT, min(_LIMIT, (letters - 4.5) / 1.5))


def _upper_share(seen: _Seen) -> float:
    upper = seen.classes.count(b"u")
    return _share(upper, upper + seen.classes.count(b"l"))


def _question(seen: _Seen) -> float:
    begins = not _QUESTION_WORDS.isdisjoint(seen.opening)
    return 0.5 * begins + 0.5 * ("?" in seen.text)


def _scripts(pattern: re.Pattern[str]) -> Callable[[_Seen], float]:
    def share(seen: _Seen) -> float:
        if seen.text.isascii():
            return 0.0
        return _share(len(pattern.findall(seen.text)), len(seen.text))

    return share


def _hint(phrases: tuple[str, ...]) -> Callable[[_Seen], float]:
    return lambda seen: float(any(phrase in seen.said for phrase in phrases))


def _code(seen: _Seen) -> float:
    marks = sum(map(seen.text.count, _CODE_MARKS))
    return _count(marks + (not _CODE_WORDS.isdisjoint(seen.vocabulary)), 4)


def _brief_answer(seen: _Seen) -> float:
    # To look for a word in front of a number takes a regular expression long; few texts have any.
    numbers = b"d" in seen.classes or not seen.text.isascii()
    asked = numbers and _ASKED_LENGTH.search(seen.text) is not None
    return max(_hint(_BRIEF_PHRASES)(seen), float(asked))


def _asks(words: frozenset[str]) -> Callable[[_Seen], float]:
    return lambda seen: float(not words.isdisjoint(seen.vocabulary))


def _options(seen: _Seen) -> float:
    found = len(_OPTION.findall(seen.text))
    return _count(found, 4) if found > 1 else 0.0


def _structured_output(seen: _Seen) -> float:
    asked = seen.request.response_format not in ("text", "", None)
    return float(asked or not _STRUCTURED_WORDS.isdisjoint(seen.vocabulary))


def _max_output_tokens(seen: _Seen) -> float:
    asked = _number(seen.request.max_output_tokens)
    return _length(asked, 512) if asked > 0 else 0.0


_FEATURES: dict[str, Callable[[_Seen], float]] = {
    "total_length": lambda seen: _length(seen.prompt.total_chars, 400),
    "user_length": lambda seen: _length(seen.prompt.user_chars, 300),
    "system_length": lambda seen: _count(seen.prompt.system_chars, 500),
    "turns": lambda seen: _count(seen.prompt.message_count - 1, 4),
    "word_length": _word_length,
    "line_count": lambda seen: _count(seen.classes.count(b"n"), 8),
    "digit_share": lambda seen: _share(seen.classes.count(b"d"), len(seen.text)),
    "upper_share": _upper_share,
    "math_symbols": lambda seen: _count(seen.classes.count(b"m"), 8),
    "code": _code,
    "question": _question,
    "options": _options,
    "non_ascii_share": lambda seen: _share(len(seen.text) - len(seen.classes), len(seen.text)),
    "cjk_share": _scripts(_CJK),
    "other_script_share": _scripts(_OTHER_SCRIPT),
    "tools": lambda seen: _count(_number(seen.request.tool_count), 4),
    "images": lambda seen: _count(seen.prompt.image_count, 1),
    "max_output_tokens": _max_output_tokens,
    "structured_output": _structured_output,
    "brief_answer": _brief_answer,
    "step_by_step": _hint(_STEP_PHRASES),
    "reasoning": _hint(_REASONING_PHRASES),
    "asks_to_write": _asks(_WRITE_WORDS),
    "asks_to_transform": _asks(_TRANSFORM_WORDS),
    "asks_to_explain": _asks(_EXPLAIN_WORDS),
}


class SurfaceStatistics:
    """Named statistics of the last user message and of the request around it."""

    @property
    def version(self) -> str:
        return "surface-1"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(_FEATURES)

    @property
    def blocks(self) -> tuple[FeatureBlock, ...]:
        return (FeatureBlock("surface", 0, len(_FEATURES)),)

    def extract(self, request: RoutingRequest) -> FeatureArray:
        """The statistics, in the order of ``names``: (25,)."""
        seen = _see(request)
        return np.array([feature(seen) for feature in _FEATURES.values()], dtype=np.float32)
