"""What each check of a cascade says, and which models each stage asks."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from bandit_router.cascade import (
    CheckedAnswer,
    Verdict,
    answer_of_body,
    answer_of_pieces,
    first_stage,
    judged,
    pure_finding,
    second_stage,
)
from bandit_router.cascade.answers import Choice
from bandit_router.cascade.confidence import asking_for_confidence, hide_confidence
from bandit_router.cascade.functions import load_functions
from bandit_router.config import ModelConfig, RouterConfig
from bandit_router.config_cascade import CheckConfig
from bandit_router.errors import ConfigError, InvalidRequest
from bandit_router.types import Mode, Operation, Pin, RoutingRequest

FIRST = UUID(int=1)
PASSED, FAILED, UNKNOWN = Verdict.PASSED, Verdict.FAILED, Verdict.UNKNOWN


def answer(text: str, request: dict[str, Any] | None = None, **changes: Any) -> CheckedAnswer:
    return CheckedAnswer("m", (Choice(text=text, **changes),), request or {})


def verdict(found: CheckedAnswer, kind: str, **fields: Any) -> Verdict:
    return pure_finding(CheckConfig.model_validate({"kind": kind, **fields}), found).verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I’m sorry, but I can't help with that.", FAILED),
        ("As an AI language model, I do not have access to the news.", FAILED),
        ("Unfortunately, I am unable to read images.", FAILED),
        ("I don't know.", FAILED),
        ("Leider kann ich das nicht.", FAILED),
        ("I can help: take the second door.", PASSED),
        ("The engine stalls because I cannot be larger than V/R.", PASSED),
    ],
)
def test_a_refusal_is_told_by_how_the_answer_begins(text: str, expected: Verdict) -> None:
    assert verdict(answer(text), "refusal", phrases=["leider kann ich"]) is expected


def test_a_refusal_is_also_told_by_its_own_field_and_by_a_filter() -> None:
    assert verdict(answer("", refusal="No."), "refusal") is FAILED
    assert verdict(answer("Half an", finish_reason="content_filter"), "refusal") is FAILED


def test_length_counts_characters_and_an_answer_that_was_cut_off_is_too_short() -> None:
    assert verdict(answer("  ok  "), "length", min_characters=3) is FAILED
    assert verdict(answer("fine"), "length", min_characters=3, max_characters=4) is PASSED
    assert verdict(answer("finer"), "length", max_characters=4) is FAILED
    assert verdict(answer("fine", finish_reason="length"), "length") is FAILED
    assert verdict(answer("", calls_tools=True), "length") is PASSED


def test_a_pattern_must_be_there_or_must_not() -> None:
    assert verdict(answer("it is 391."), "regex", pattern=r"\d{3}") is PASSED
    assert verdict(answer("it is 39."), "regex", pattern=r"\d{3}") is FAILED
    assert verdict(answer("TODO: rest"), "regex", pattern="TODO", forbidden=True) is FAILED


def test_confidence_is_the_geometric_mean_of_the_tokens_probabilities() -> None:
    # √(0.9 · 0.4) = 0.6
    unsure = answer("x", log_probabilities=(math.log(0.9), math.log(0.4)))
    assert verdict(unsure, "confidence", least_token_probability=0.59) is PASSED
    assert verdict(unsure, "confidence", least_token_probability=0.61) is FAILED
    assert verdict(answer("x"), "confidence") is UNKNOWN


def test_json_is_held_against_the_requests_own_schema_or_the_checks() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    of_responses = {"text": {"format": {"type": "json_schema", "schema": schema}}}
    for request in (asked, of_responses):
        assert verdict(answer('{"a": 1}', request), "json_schema") is PASSED
        assert verdict(answer('{"a": "1"}', request), "json_schema") is FAILED
        assert verdict(answer('{"a": 1', request), "json_schema") is FAILED
    assert verdict(answer("prose"), "json_schema") is PASSED
    assert verdict(answer("prose"), "json_schema", json_schema=schema) is FAILED
    assert verdict(answer("NaN"), "json_schema", json_schema={}) is FAILED
    mode = {"response_format": {"type": "json_object"}}
    assert verdict(answer("[1]", mode), "json_schema") is FAILED


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"type": "no such type"},
        {
            "$ref": "#/$defs/d0",
            "$defs": {
                **{f"d{k}": {"allOf": [{"$ref": f"#/$defs/d{k + 1}"}] * 2} for k in range(60)},
                "d60": {},
            },
        },
    ],
)
def test_a_callers_schema_can_neither_fetch_nor_unfold_without_end(schema: dict[str, Any]) -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    assert verdict(answer("[]", asked), "json_schema") is UNKNOWN


SLOW, ENDLESS = "(a|a)+$", "a" * 60 + "!"


def test_an_expression_that_takes_too_long_is_given_up_and_holds_nobody() -> None:
    assert verdict(answer("a" * 60 + "!"), "regex", pattern="(a+)+$") is not PASSED
    stop, counted = threading.Event(), 0

    def count() -> None:
        nonlocal counted
        while not stop.wait(0.001):
            counted += 1

    counting = threading.Thread(target=count)
    counting.start()
    try:
        assert verdict(answer(ENDLESS), "regex", pattern=SLOW) is UNKNOWN
    finally:
        stop.set()
        counting.join()
    assert counted > 20
    schema = {"type": "string", "pattern": SLOW}
    assert verdict(answer(f'"{ENDLESS}"'), "json_schema", json_schema=schema) is UNKNOWN
    named = {"patternProperties": {SLOW: {"type": "string"}}}
    found = answer(f'{{"{ENDLESS}": 1}}')
    assert verdict(found, "json_schema", json_schema=named) is UNKNOWN


def test_patterns_of_an_operators_schema_hold() -> None:
    schema = {
        "properties": {"id": {"pattern": "^[a-z]+$"}},
        "patternProperties": {"^n_": {"type": "integer"}},
    }
    for text, expected in (
        ('{"id": "abc", "n_1": 1}', PASSED),
        ('{"id": "A", "n_1": 1}', FAILED),
        ('{"id": 7, "n_1": "1"}', FAILED),
        ("[]", PASSED),
    ):
        assert verdict(answer(text), "json_schema", json_schema=schema) is expected


def test_a_callers_expressions_are_left_out_since_there_may_be_any_number() -> None:
    schema = {"type": "string", "pattern": "(a+)+$"}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    assert verdict(answer('"' + "a" * 60 + '!"', asked), "json_schema") is PASSED


def test_a_judges_score_is_the_last_number_from_0_to_1() -> None:
    check = CheckConfig.model_validate({"kind": "judge", "model": "j", "least_score": 0.7})
    assert judged(check, "0.7").verdict is PASSED
    assert judged(check, "Of 10 points: 0.69.").verdict is FAILED
    assert judged(check, "1").verdict is PASSED
    assert judged(check, "7 out of 10").verdict is UNKNOWN
    assert judged(check, "good").verdict is UNKNOWN


def test_every_choice_must_pass() -> None:
    both = replace(answer("fine"), choices=(Choice(text="fine"), Choice(text="")))
    assert verdict(both, "length") is FAILED
    assert verdict(replace(both, choices=()), "length") is FAILED


def test_a_stream_put_together_is_the_answer_that_would_have_come_whole() -> None:
    chunks = [
        b'{"choices": [{"index": 1, "delta": {"content": "b"}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "a"},'
        b' "logprobs": {"content": [{"logprob": -0.5}]}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "c"}, "finish_reason": "stop"}]}',
        b"",
    ]
    found = answer_of_pieces(Operation.CHAT, "m", {}, chunks)
    assert found.choices == (
        Choice(text="ac", finish_reason="stop", log_probabilities=(-0.5,)),
        Choice(text="b"),
    )
    whole = {
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": "ac"}]},
            {"type": "function_call", "name": "f"},
        ]
    }
    told = answer_of_body(Operation.RESPONSES, "m", {}, whole)
    assert told.choices == (Choice(text="ac", finish_reason="stop", calls_tools=True),)
    text = answer_of_body(Operation.COMPLETIONS, "m", {}, {"choices": [{"text": "ac"}]})
    assert text.text == "ac"


def test_log_probabilities_are_asked_for_only_where_the_caller_has_not() -> None:
    body = {"messages": []}
    assert asking_for_confidence(Operation.CHAT, body) == {"messages": [], "logprobs": True}
    assert body == {"messages": []}
    own = {"logprobs": True}
    assert asking_for_confidence(Operation.CHAT, own) is own
    told: dict[str, Any] = {"choices": [{"logprobs": {"content": []}}]}
    hide_confidence(told)
    assert told == {"choices": [{"logprobs": None}]}


def config(**cascade: Any) -> RouterConfig:
    models = [
        ModelConfig(name=name, base_url="http://127.0.0.1:9/v1", input_usd_per_million=price)
        for name, price in (("small", 1.0), ("medium", 3.0), ("large", 9.0))
    ]
    told = {"checks": [{"kind": "length"}], **cascade}
    return RouterConfig.model_validate({"models": models, "cascades": {"c": told}})


ASKED = RoutingRequest(messages=({"role": "user", "content": "?"},), cascade="c")


def escalated(request: RoutingRequest, asked: tuple[str, ...], **of: Any) -> RoutingRequest | None:
    return second_stage(
        config(**of), request, cascade="c", first_id=FIRST, asked=asked, left_usd=None
    )


def test_without_names_all_but_the_strongest_are_first_and_what_is_stronger_comes_then() -> None:
    first = first_stage(config(), ASKED)
    assert first.candidates == ("small", "medium")
    assert first.influences == {"cascade": "c"}
    then = escalated(ASKED, ("small",))
    assert then is not None
    assert then.candidates == ("medium", "large")
    assert then.influences == {"cascade": "c", "escalated_from": str(FIRST)}
    assert first_stage(config(), then) is then
    assert escalated(ASKED, ("small", "large")) is None


def test_named_stages_are_held_to_and_to_the_callers_own_candidates() -> None:
    of = {"first": ["medium", "small"], "then": ["large", "medium"]}
    assert first_stage(config(**of), ASKED).candidates == ("medium", "small")
    then = escalated(ASKED, ("medium",), **of)
    assert then is not None
    assert then.candidates == ("large",)
    only = replace(ASKED, candidates=("large", "small"))
    assert first_stage(config(**of), only).candidates == ("small",)
    assert escalated(replace(ASKED, candidates=("small",)), ("small",), **of) is None


def test_there_is_no_cascade_for_a_model_that_is_named_or_pinned_above_it() -> None:
    for request in (
        replace(ASKED, override="small"),
        replace(ASKED, pin=Pin("small", Mode.RULE, firm=True)),
        replace(ASKED, pin=Pin("large", Mode.STICKY)),
        replace(ASKED, candidates=("large",)),
        replace(ASKED, cascade=None),
    ):
        assert first_stage(config(), request) is request
    stays = replace(ASKED, pin=Pin("small", Mode.STICKY))
    assert first_stage(config(), stays).influences == {"cascade": "c"}
    with pytest.raises(InvalidRequest, match=r"no cascade 'd'; the configuration has c"):
        first_stage(config(), replace(ASKED, cascade="d"))


def test_checks_are_a_signal_without_being_declared() -> None:
    assert config().rewards["check"].type == "boolean"
    assert set(config().rewards) == {"quality", "check"}


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ({"kind": "regex"}, "a regex check needs pattern"),
        ({"kind": "regex", "pattern": "("}, "is no regular expression"),
        ({"kind": "length", "pattern": "x"}, "a length check has no pattern"),
        ({"kind": "judge"}, "a judge check needs model"),
        ({"kind": "python", "function": "no dots"}, "function"),
    ],
)
def test_a_check_that_cannot_be_made_is_refused(check: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config(checks=[check])


def test_a_function_that_is_not_there_is_told_before_the_start() -> None:
    known = {"kind": "python", "function": "math:isfinite"}
    assert load_functions(config(checks=[known])) == {"math:isfinite": math.isfinite}
    for function, told in (("math:nothing", "has no function"), ("no_such_one:f", "PYTHONPATH")):
        with pytest.raises(ConfigError, match=told):
            load_functions(config(checks=[{"kind": "python", "function": function}]))


def test_a_cascades_models_must_be_configured() -> None:
    with pytest.raises(ValidationError, match=r"cascades\.c: no model 'huge'"):
        config(then=["huge"])
