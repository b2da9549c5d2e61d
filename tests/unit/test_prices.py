"""Dollars and tokens by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit_router.config import ModelConfig
from bandit_router.prices import TOKENS_PER_IMAGE, cost_of, estimate_input_tokens
from bandit_router.protocols import Usage

PAID = ModelConfig(
    name="paid",
    base_url="http://x/v1",
    input_usd_per_million=3.0,
    output_usd_per_million=15.0,
)
TEXTS = st.text(st.sampled_from("a é世\ud800"), max_size=5)
LOCAL = ModelConfig(name="local", base_url="http://x/v1", local=True, usd_per_hour=1.8)


def test_cost_is_tokens_times_list_price():
    assert cost_of(PAID, Usage(1000, 200), 5.0) == pytest.approx(0.003 + 0.003)


def test_upstreams_own_cost_goes_before_the_list_price():
    assert cost_of(PAID, Usage(1000, 200, cost_usd=0.5), 5.0) == 0.5


def test_local_model_costs_its_seconds():
    assert cost_of(LOCAL, Usage(), 10.0) == pytest.approx(0.005)
    assert cost_of(LOCAL, Usage(cost_usd=0.01), 10.0) == pytest.approx(0.015)


def test_unknown_tokens_that_have_a_price_make_the_cost_unknown():
    assert cost_of(PAID, Usage(1000, None), 5.0) is None
    assert cost_of(PAID, Usage(), 5.0) is None
    free_input = PAID.model_copy(update={"input_usd_per_million": 0.0})
    assert cost_of(free_input, Usage(None, 200), 5.0) == pytest.approx(0.003)


def test_token_estimate_counts_text_parts_tools_and_pictures():
    assert estimate_input_tokens([{"role": "user", "content": "x" * 400}]) == 3 + 4 + 100
    parts = [{"type": "text", "text": "x" * 400}, {"type": "image_url", "image_url": {"url": "d"}}]
    assert (
        estimate_input_tokens([{"role": "user", "content": parts}])
        == 3 + 4 + 100 + TOKENS_PER_IMAGE
    )
    assert estimate_input_tokens([{"role": "user", "content": "世" * 4}]) == 3 + 4 + 3
    assert estimate_input_tokens([]) == 3
    calls = [{"function": {"name": "f", "arguments": "y" * 400}}]
    assert (
        estimate_input_tokens([{"role": "assistant", "content": None, "tool_calls": calls}]) > 100
    )


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["role", "content", "name", "tool_calls"]),
            st.recursive(
                st.none() | st.integers() | TEXTS,
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
                ),
                max_leaves=4,
            ),
        ),
        max_size=3,
    )
)
def test_token_estimate_never_raises_and_is_positive(messages):
    assert estimate_input_tokens(messages) >= 1
