from __future__ import annotations

import math

import pytest

from bandit_router.features.prompt import USER_TEXT_LIMIT, read_prompt, window
from bandit_router.features.surface import SurfaceStatistics
from bandit_router.types import RoutingRequest


def features_of(content: object, **fields: object) -> dict[str, float]:
    extractor = SurfaceStatistics()
    request = RoutingRequest(messages=({"role": "user", "content": content},), **fields)  # type: ignore[arg-type]
    return dict(zip(extractor.names, extractor.extract(request).tolist(), strict=True))


def test_lengths_count_in_fourfolds_of_a_typical_prompt() -> None:
    assert features_of("x" * 400)["total_length"] == pytest.approx(0.0)
    assert features_of("x" * (4 * 401 - 1))["total_length"] == pytest.approx(1.0)
    assert features_of("")["total_length"] == pytest.approx(-3.0)


def test_shares_are_doubled_roots() -> None:
    # Four digits among sixteen characters: a quarter.
    assert features_of("abcdefghijkl1234")["digit_share"] == pytest.approx(1.0)
    # One upper-case letter among four letters.
    assert features_of("Abcd 12")["upper_share"] == pytest.approx(1.0)


def test_math_symbols_count_as_logarithm() -> None:
    expected = math.log1p(3) / math.log1p(8)
    assert features_of("2 + 3 * 4 = ?")["math_symbols"] == pytest.approx(expected)


def test_multiple_choice_needs_at_least_two_options() -> None:
    assert features_of("Which?\n(A) red\n(B) blue\n(C) green\n(D) grey")["options"] == 1.0
    assert features_of("A) yes\nB) no")["options"] > 0.5
    assert features_of("See section (a) for more.")["options"] == 0.0
    assert features_of("Call f(A) and g(B) twice.")["options"] == 0.0


@pytest.mark.parametrize(
    ("name", "with_it", "without_it"),
    [
        ("question", "What is it?", "Name it."),
        ("code", "Why?\n```\nprint(1)\n```", "Return to the start, then import the wine."),
        ("structured_output", "Reply in JSON.", "Reply to Jason."),
        ("brief_answer", "Explain in one word.", "Explain everything."),
        ("brief_answer", "Use at most 50 words.", "Use words."),
        ("step_by_step", "Think step-by-step.", "Take eight steps."),
        ("reasoning", "How many legs have 3 cows?", "Cows have legs."),
        ("asks_to_write", "Implement a queue.", "A queue stands outside."),
        ("asks_to_transform", "Translate this into Dutch.", "This is Dutch."),
        ("asks_to_explain", "Please explain magnets.", "Magnets."),
        ("cjk_share", "日本語で答えて", "in Japanese"),
        ("other_script_share", "Переведи это", "translate this"),
        ("non_ascii_share", "Größe", "size"),
        ("line_count", "a\nb", "a b"),
    ],
)
def test_hint_fires_on_its_own_kind_only(name: str, with_it: str, without_it: str) -> None:
    assert features_of(with_it)[name] > 0.0
    assert features_of(without_it)[name] == 0.0


def test_request_fields_are_features() -> None:
    plain = features_of("x")
    asked = features_of("x", tool_count=4, response_format="json_object", max_output_tokens=2051)
    assert (plain["tools"], asked["tools"]) == (0.0, pytest.approx(1.0))
    assert (plain["structured_output"], asked["structured_output"]) == (0.0, 1.0)
    assert plain["max_output_tokens"] == 0.0
    assert asked["max_output_tokens"] == pytest.approx(1.0)


def test_images_and_text_parts_are_both_read() -> None:
    parts = [
        {"type": "text", "text": "Who"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "text", "text": "is this?"},
    ]
    assert features_of(parts)["images"] == pytest.approx(1.0)
    assert features_of(parts)["question"] == 1.0


def test_last_user_message_is_the_one_read() -> None:
    request = RoutingRequest(
        messages=(
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "answer"},
            {"role": "user", "content": "second"},
            {"role": "assistant", "content": "calling a tool"},
            {"role": "tool", "content": "42"},
        )
    )
    prompt = read_prompt(request)
    assert prompt.user_text == "second"
    assert prompt.system_text == "Be kind."
    assert prompt.message_count == 6
    assert prompt.total_chars == len("Be kind.firstanswersecondcalling a tool42")


def test_window_keeps_head_and_tail() -> None:
    assert window("abcdefghij", 10) == "abcdefghij"
    assert window("abcdefghij", 4) == "abij"
    assert window("abcdefghij", 5) == "abhij"


class Guarded(str):
    """A text that may be measured and sliced but never walked through as a whole."""

    __slots__ = ()

    def lower(self) -> str:
        raise AssertionError("the whole text was read")

    encode = count = split = find = isascii = lower  # type: ignore[assignment]
    __contains__ = __iter__ = lower  # type: ignore[assignment]


@pytest.mark.parametrize("parts", [False, True])
def test_no_more_than_the_bound_is_read_of_a_long_text(parts: bool) -> None:
    text = Guarded("word " * 1_000_000)
    content = [{"type": "text", "text": text}] if parts else text
    prompt = read_prompt(RoutingRequest(messages=({"role": "user", "content": content},)))
    assert len(prompt.user_text) == USER_TEXT_LIMIT
    assert prompt.user_chars == 5_000_000
    assert features_of(content)["user_length"] == 3.0
