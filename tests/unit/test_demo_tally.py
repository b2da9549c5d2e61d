"""The demo's yardsticks and windows, on a matrix small enough to count by hand."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from bandit_router.types import FloatArray
from simulations.baselines import Baseline
from simulations.demo.result import standing
from simulations.demo.screen import dollars, short_names
from simulations.demo.tally import Answered, Contest, Line, mix_shares, shuffled, window_size
from simulations.matrix import OutcomeMatrix

NOBODY = UUID(int=0)


def matrix_of(quality: list[list[float]], cost_usd: list[list[float]]) -> OutcomeMatrix:
    count = len(quality)
    nothing: FloatArray = np.full((count, len(quality[0])), np.nan)
    return OutcomeMatrix(
        prompt_ids=tuple(f"p{i}" for i in range(count)),
        prompts=tuple(f"prompt {i}" for i in range(count)),
        category=("",) * count,
        split=("",) * count,
        models=("v/small-1", "v/middle-2", "v/big-3"),
        quality=np.array(quality),
        cost_usd=np.array(cost_usd),
        latency_s=nothing,
        input_tokens=nothing,
        output_tokens=nothing,
    )


# Means: small 0.5 at 1, middle 0.7 at 2, big 0.9 at 10.
MATRIX = matrix_of(
    [[0.5, 0.6, 1.0], [0.5, 0.6, 1.0], [0.2, 0.8, 0.8], [0.8, 0.8, 0.8]],
    [[1.0, 2.0, 4.0], [1.0, 2.0, 16.0], [1.0, 2.0, 10.0], [1.0, 2.0, 10.0]],
)


def answer(row: int, arm: int) -> Answered:
    judged = arm >= 0
    return Answered(
        row=row,
        decision_id=NOBODY,
        arm=arm,
        quality=float(MATRIX.quality[row, arm]) if judged else None,
        cost_usd=float(MATRIX.cost_usd[row, arm]) if judged else 0.0,
        propensity=0.5,
        overhead_s=0.001,
    )


def assert_line(line: Line, quality: float, cost_usd: float, shares: list[float]) -> None:
    assert (line.quality, line.cost_usd) == pytest.approx((quality, cost_usd))
    assert list(line.shares) == pytest.approx(shares)


def test_yardsticks_are_the_matrix_s_own_means() -> None:
    yardsticks = Contest.on(MATRIX).yardsticks()
    assert_line(yardsticks["always_cheapest"], 0.5, 1.0, [1, 0, 0])
    assert_line(yardsticks["always_best"], 0.9, 10.0, [0, 0, 1])
    assert_line(yardsticks["random"], 0.7, 13 / 3, [1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("spend_usd", "quality", "shares"),
    [
        (0.5, 0.5, [1, 0, 0]),
        (1.25, 0.55, [0.75, 0.25, 0]),
        (2.0, 0.7, [0, 1, 0]),
        (4.0, 0.75, [0, 0.75, 0.25]),
        (99.0, 0.9, [0, 0, 1]),
    ],
)
def test_the_static_mix_walks_along_the_hull(
    spend_usd: float, quality: float, shares: list[float]
) -> None:
    spent_usd = min(max(spend_usd, 1.0), 10.0)
    assert_line(Contest.on(MATRIX).static_mix(spend_usd), quality, spent_usd, shares)


def test_a_mix_of_other_models_is_refused() -> None:
    with pytest.raises(ValueError, match="mix to"):
        mix_shares(Contest.on(MATRIX).models, Baseline(0.99, 5.0))


def test_a_window_measures_everyone_on_its_own_prompts() -> None:
    window = Contest.on(MATRIX).window(11, [answer(0, 2), answer(3, 0)])
    assert (window.first, window.last) == (11, 12)
    assert_line(window.router, 0.9, 2.5, [0.5, 0, 0.5])
    assert_line(window.yardsticks["always_cheapest"], 0.65, 1.0, [1, 0, 0])
    # Best of all the prompts, not of these two.
    assert_line(window.yardsticks["always_best"], 0.9, 7.0, [0, 0, 1])


def test_an_answer_that_was_never_judged_costs_but_has_no_quality() -> None:
    router = Contest.on(MATRIX).router([answer(0, 2), answer(1, -1)])
    assert_line(router, 1.0, 2.0, [0, 0, 0.5])


def test_a_standing_compares_on_the_prompts_that_were_answered() -> None:
    there = standing(Contest.on(MATRIX), [answer(0, 1), answer(1, 1), answer(2, 1), answer(3, 2)])
    assert there.router.cost_usd == 4.0
    assert there.yardsticks["static_mix"].quality == pytest.approx(0.75)
    assert there.saving == pytest.approx(0.6)
    assert there.ahead_of("static_mix") == pytest.approx(0.7 - 0.75)


def test_the_order_is_the_seed_s_and_shorter_runs_are_its_beginning() -> None:
    whole = shuffled(MATRIX, None, 3)
    assert sorted(whole.tolist()) == [0, 1, 2, 3]
    assert shuffled(MATRIX, 2, 3).tolist() == whole[:2].tolist()
    assert len({tuple(shuffled(MATRIX, None, seed).tolist()) for seed in range(9)}) > 1


def test_windows_are_long_in_long_runs() -> None:
    assert [window_size(n) for n in (50, 120, 500, 999, 1000, 3609)] == [10, 20, 100, 200, 200, 200]


def test_dollars_have_three_figures_and_no_exponent() -> None:
    told = [dollars(amount) for amount in (0.0, 2.9e-5, 6.6e-4, 0.0151, 2.375, 1234.5)]
    assert told == ["$0.000", "$0.0000290", "$0.000660", "$0.0151", "$2.38", "$1,234.50"]


def test_models_are_called_by_their_family_where_that_tells_them_apart() -> None:
    names = ("meta-llama/llama-3.1-8b-instruct", "google/gemini-2.5-pro")
    assert short_names(names) == ("llama", "gemini")
    alike = ("google/gemini-2.5-flash", "google/gemini-2.5-pro")
    assert short_names(alike) == alike
