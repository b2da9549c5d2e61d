"""Whether an answer is good enough to be given: the checks that need nothing but the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from bandit_router.cascade.answers import CheckedAnswer, Choice
from bandit_router.cascade.json_schema import schema_finding
from bandit_router.cascade.patterns import PatternTooSlow, is_in
from bandit_router.cascade.verdict import Finding, Verdict
from bandit_router.config_cascade import CheckConfig, CheckKind

__all__ = ["Finding", "Verdict", "judged", "pure_finding"]

# How models refuse in English, at the beginning of an answer; other languages go into phrases.
CANNOT = (
    r"(i (can't|cannot|can not|won't|will not|am (not able|unable))|i'm (not able|unable)|"
    r"i (do not|don't) (know|have (enough|sufficient|the|access)))"
)
REFUSAL = re.compile(
    rf"((i'm |i am )?(very |so )?sorry,? |unfortunately,? |as an ai[\w ]*,? |but )*{CANNOT}\b"
)
BEGINNING_CHARACTERS = 200


def pure_finding(check: CheckConfig, answer: CheckedAnswer) -> Finding:
    """What one check says; of several choices each must pass. Not for ``python`` and ``judge``.

    An answer that calls tools need have no text, and passes checks of the text.
    """
    if not answer.choices:
        return Finding.failed(check, "the answer has no choices")
    for choice in answer.choices:
        finding = _LOOKS[check.kind](check, choice, answer)
        if finding.verdict is not Verdict.PASSED:
            return finding
    return Finding.passed(check)


def judged(check: CheckConfig, reply: str) -> Finding:
    """What a judge's reply comes to: the last number from 0 to 1 in it."""
    found = SCORE.findall(reply)
    if not found:
        return Finding.unknown(check, f"the judge gave no score from 0 to 1: {reply[:80]!r}")
    score = float(found[-1])
    if score >= check.least_score:
        return Finding.passed(check)
    return Finding.failed(check, f"the judge's score {score:g} is below {check.least_score:g}")


def _json(check: CheckConfig, choice: Choice, answer: CheckedAnswer) -> Finding:
    if choice.calls_tools and not choice.text:
        return Finding.passed(check)
    return schema_finding(check, choice.text, answer.request)


def _regex(check: CheckConfig, choice: Choice, answer: CheckedAnswer) -> Finding:
    if choice.calls_tools and not choice.text:
        return Finding.passed(check)
    try:
        found = is_in(check.pattern or "", choice.text)
    except PatternTooSlow as slow:
        return Finding.unknown(check, str(slow))
    if found is not check.forbidden:
        return Finding.passed(check)
    what = "is there" if found else "is not there"
    return Finding.failed(check, f"pattern {check.pattern!r} {what}")


def _refusal(check: CheckConfig, choice: Choice, answer: CheckedAnswer) -> Finding:
    if choice.refusal or choice.withheld:
        return Finding.failed(check, choice.refusal[:80] or "the answer was withheld")
    beginning = choice.text.lstrip()[:BEGINNING_CHARACTERS].lower().replace("’", "'")
    if REFUSAL.match(beginning) or any(
        beginning.startswith(phrase.lower()) for phrase in check.phrases
    ):
        return Finding.failed(check, f"the answer begins as refusals do: {beginning[:60]!r}")
    return Finding.passed(check)


def _length(check: CheckConfig, choice: Choice, answer: CheckedAnswer) -> Finding:
    if choice.cut_off:
        return Finding.failed(check, "the answer was cut off at its token limit")
    if choice.calls_tools and not choice.text:
        return Finding.passed(check)
    count = len(choice.text.strip())
    most = check.max_characters
    if count < check.min_characters or (most is not None and count > most):
        bounds = f"{check.min_characters} to {'any' if most is None else most}"
        return Finding.failed(check, f"{count} characters, not {bounds}")
    return Finding.passed(check)


def _confidence(check: CheckConfig, choice: Choice, answer: CheckedAnswer) -> Finding:
    known = choice.log_probabilities
    if not known:
        return Finding.unknown(check, f"model '{answer.model}' gave no log-probabilities")
    probability = math.exp(math.fsum(known) / len(known))
    if probability >= check.least_token_probability:
        return Finding.passed(check)
    return Finding.failed(
        check,
        f"a token's probability is {probability:.3f} on average, below "
        f"{check.least_token_probability:g}",
    )


SCORE = re.compile(r"(?<![\d.])(?:0(?:\.\d+)?|1(?:\.0+)?|\.\d+)(?![\d.]*\d)")
_LOOKS: Mapping[CheckKind, Callable[[CheckConfig, Choice, CheckedAnswer], Finding]] = {
    CheckKind.JSON_SCHEMA: _json,
    CheckKind.REGEX: _regex,
    CheckKind.REFUSAL: _refusal,
    CheckKind.LENGTH: _length,
    CheckKind.CONFIDENCE: _confidence,
}
