"""What every registered extractor must do, and the numbers that its version stands for.

A failing golden value means: the numbers changed. Raise the extractor's version, then pin anew.
"""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.config import FeaturesConfig
from bandit_router.features import EXTRACTORS, build_extractor
from bandit_router.protocols import FeatureExtractor
from bandit_router.types import RoutingRequest

CONFIG = FeaturesConfig(text_dimension=64, metadata=("task", "user_tier"))

PLAIN = RoutingRequest(
    messages=({"role": "user", "content": "How many apples are left if Ann eats 3 of 12?"},),
    metadata={"task": "arithmetic", "user_tier": "free"},
)
RICH = RoutingRequest(
    messages=(
        {"role": "system", "content": "You are a terse assistant for Größe & Füße GmbH."},
        {"role": "user", "content": "Привет!"},
        {"role": "assistant", "content": "Hello."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Fix this, in JSON:\n```python\ndef f(x):\n    ..."},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
    ),
    metadata={"task": "code"},
    tool_count=2,
    response_format="json_object",
    max_output_tokens=2048,
)
ODD = (
    RoutingRequest(messages=()),
    RoutingRequest(messages=({},)),
    RoutingRequest(messages=({"role": "user", "content": None},)),
    RoutingRequest(messages=({"role": "user", "content": 7},)),
    RoutingRequest(messages=({"role": "user", "content": "\ud800 lone \udfff"},)),
    RoutingRequest(messages=({"role": ["user"], "content": [None, 3, {"text": 4}, ["x"]]},)),
    RoutingRequest(messages=("not a message",)),  # type: ignore[arg-type]
    RoutingRequest(messages=({"role": "user", "content": " \n\t"},)),
    RoutingRequest(messages=({"role": "user", "content": "a" * 10_000_000},)),
    RoutingRequest(messages=PLAIN.messages, metadata={"task": 10**6000}),  # type: ignore[dict-item]
    RoutingRequest(messages=PLAIN.messages, tool_count=-5, max_output_tokens=10**400),
)

# Version, then the digest of PLAIN's features and of RICH's.
GOLDEN: dict[str, tuple[str, list[float], list[float]]] = {
    "hashed": (
        "hashed-64-1",
        [
            0.424274,
            -1.725907,
            3.851567,
            -2.538092,
            -0.384902,
            1.089607,
            0.686887,
            2.963157,
            0.200708,
            -3.101753,
        ],
        [
            -3.039317,
            1.875619,
            -5.431116,
            0.247580,
            -4.746905,
            3.973036,
            3.606435,
            1.150157,
            4.514209,
            -0.523996,
        ],
    ),
    "metadata": (
        "metadata(task,user_tier)-2",
        [
            0.000000,
            -1.433594,
            -1.906250,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
        ],
        [
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            0.000000,
            1.304688,
            0.000000,
        ],
    ),
    "minilm": (
        "minilm-64-1",
        [
            -0.279671,
            2.596073,
            3.616866,
            2.343663,
            0.590525,
            -4.277585,
            -0.408553,
            -5.419043,
            0.868815,
            -0.949547,
        ],
        [
            3.422639,
            0.309844,
            -2.318422,
            0.979135,
            2.086529,
            4.542494,
            -0.493971,
            1.724981,
            -2.634638,
            2.322848,
        ],
    ),
    "surface": (
        "surface-1",
        [
            -0.161948,
            0.430770,
            0.000000,
            0.000000,
            -0.816296,
            0.000000,
            0.640333,
            0.650241,
            0.000000,
            0.000000,
        ],
        [
            -0.946285,
            -1.393096,
            0.676119,
            2.884715,
            -1.160000,
            1.849286,
            1.640000,
            2.846702,
            1.720000,
            1.360000,
        ],
    ),
}


@pytest.fixture(scope="module", params=sorted(EXTRACTORS))
def extractor(request: pytest.FixtureRequest) -> FeatureExtractor:
    return EXTRACTORS[request.param](CONFIG)


def test_features_have_the_promised_shape_and_type(extractor: FeatureExtractor) -> None:
    for asked in (PLAIN, RICH):
        features = extractor.extract(asked)
        assert features.shape == (len(extractor.names),)
        assert features.dtype == np.float32


def test_feature_names_are_unique(extractor: FeatureExtractor) -> None:
    assert len(set(extractor.names)) == len(extractor.names) > 0


def test_blocks_tile_the_features(extractor: FeatureExtractor) -> None:
    edges = [0]
    for block in extractor.blocks:
        assert block.start == edges[-1] < block.stop
        edges.append(block.stop)
    assert edges[-1] == len(extractor.names)


def test_features_are_finite_and_of_order_one_on_odd_input(extractor: FeatureExtractor) -> None:
    for asked in (PLAIN, RICH, *ODD):
        features = extractor.extract(asked)
        assert np.isfinite(features).all()
        assert np.sqrt(np.mean(np.square(features))) < 3.0
        assert np.abs(features).max(initial=0.0) < 12.0


def test_another_instance_gives_the_same_numbers(extractor: FeatureExtractor) -> None:
    name = next(name for name in EXTRACTORS if extractor.version.startswith(name))
    twin = EXTRACTORS[name](CONFIG)
    assert twin.version == extractor.version
    for asked in (PLAIN, RICH, *ODD):
        np.testing.assert_array_equal(twin.extract(asked), extractor.extract(asked))


def test_numbers_belong_to_their_version(extractor: FeatureExtractor) -> None:
    version, plain, rich = GOLDEN[extractor.version.partition("-")[0].partition("(")[0]]
    assert extractor.version == version
    # int8 kernels differ between processors; everything else is exact but for summation order.
    tolerance = 0.5 if version.startswith("minilm") else 1e-5
    np.testing.assert_allclose(_digest(extractor.extract(PLAIN)), plain, atol=tolerance)
    np.testing.assert_allclose(_digest(extractor.extract(RICH)), rich, atol=tolerance)


def _digest(features: np.ndarray) -> list[float]:
    """Ten sums over interleaved tenths, weighted by place: every feature moves one of them."""
    weights = 1.0 + np.arange(features.size) / features.size
    weighted = features.astype(np.float64) * weights
    return [float(weighted[start::10].sum()) for start in range(10)]


def test_default_configuration_composes_surface_text_and_metadata() -> None:
    extractor = build_extractor(FeaturesConfig())
    assert extractor.version == "surface-1+hashed-256-1+metadata(task,user_tier)-2"
    assert [block.name for block in extractor.blocks] == [
        "surface",
        "text",
        "metadata.task",
        "metadata.user_tier",
    ]
    assert extractor.blocks[-1].stop == len(extractor.names) == extractor.extract(PLAIN).size


def test_text_and_metadata_can_be_left_out() -> None:
    extractor = build_extractor(FeaturesConfig(text="none", metadata=()))
    assert extractor.version == "surface-1"
    assert [block.name for block in extractor.blocks] == ["surface"]


def test_composition_is_its_parts_side_by_side() -> None:
    composed = build_extractor(CONFIG).extract(RICH)
    parts = [EXTRACTORS[name](CONFIG).extract(RICH) for name in ("surface", "hashed", "metadata")]
    np.testing.assert_array_equal(composed, np.concatenate(parts))
