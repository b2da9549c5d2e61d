import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit_router.config import RewardConfig
from bandit_router.errors import InvalidFeedback, UnknownMetric
from bandit_router.rewards import combined, posted_value, scaled

REWARDS = {
    "thumbs": RewardConfig(type="boolean", weight=1.0),
    "regret": RewardConfig(type="boolean", optimize="min"),
    "stars": RewardConfig(range=(1.0, 5.0), weight=3.0),
    "edits": RewardConfig(range=(0.0, 20.0), optimize="min", weight=2.0),
}


@pytest.mark.parametrize(
    ("metric", "value", "reward"),
    [
        ("thumbs", True, 1.0),
        ("thumbs", 0, 0.0),
        ("thumbs", 1.0, 1.0),
        ("regret", True, 0.0),
        ("stars", 1, 0.0),
        ("stars", 4.0, 0.75),
        ("edits", 0.0, 1.0),
        ("edits", 5, 0.75),
    ],
)
def test_scaling_by_hand(metric: str, value: object, reward: float) -> None:
    assert scaled(metric, value, REWARDS) == reward


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("thumbs", 0.5),
        ("thumbs", "true"),
        ("thumbs", None),
        ("thumbs", float("nan")),
        ("stars", 0.99),
        ("stars", 5.01),
        ("stars", True),
        ("stars", "4"),
        ("stars", float("nan")),
        ("stars", float("inf")),
        ("stars", 10**400),
    ],
)
def test_bad_values_are_refused_with_value_and_metric(metric: str, value: object) -> None:
    with pytest.raises(InvalidFeedback) as caught:
        posted_value(metric, value, REWARDS)
    assert metric in str(caught.value)
    assert repr(value) in str(caught.value)
    assert caught.value.param == "value"


def test_the_refusal_names_the_range() -> None:
    with pytest.raises(InvalidFeedback, match="from 1 to 5"):
        posted_value("stars", 6, REWARDS)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(UnknownMetric, match="edits, regret, stars, thumbs"):
        scaled("star", 3, REWARDS)


def test_metrics_combine_by_weight_over_those_present() -> None:
    # (1 · 1 + 3 · 0.5 + 2 · 0.25) / 6
    assert combined({"thumbs": 1.0, "stars": 3.0, "edits": 15.0}, REWARDS) == pytest.approx(0.5)
    # (1 · 0 + 3 · 1) / 4
    assert combined({"thumbs": 0.0, "stars": 5.0}, REWARDS) == pytest.approx(0.75)


def test_nothing_known_is_no_reward_rather_than_zero() -> None:
    assert combined({}, REWARDS) is None
    assert combined({"dropped_metric": 1.0}, REWARDS) is None


def test_stored_values_beyond_a_narrowed_range_count_as_its_end() -> None:
    assert combined({"stars": 9.0}, REWARDS) == 1.0


@given(
    st.dictionaries(
        st.sampled_from(sorted(REWARDS)), st.floats(-1e300, 1e300, allow_nan=False), max_size=4
    )
)
def test_a_combined_reward_stays_in_the_unit_interval(values: dict[str, float]) -> None:
    reward = combined(values, REWARDS)
    assert (reward is None) == (not values)
    assert reward is None or 0.0 <= reward <= 1.0
