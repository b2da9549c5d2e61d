"""A fresh run of the installed ``paretobandit`` package under its own protocol.

Its router, pacer, 25 principal components and hyper-parameters are used as the package ships
them; only the sentence embedder, which it would download, is replaced by this project's copy of
the same model (all-MiniLM-L6-v2, int8, first 128 tokens).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from bandit_router.errors import ConfigError
from bandit_router.features.minilm import MinilmEmbedding
from bandit_router.types import FloatArray, RoutingRequest
from simulations.simulate import Study

NEEDED = ("pareto_bandit", "sklearn", "joblib", "tqdm")
WIDTH = 384


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """Mean over seeds of test reward, and of test spend over budget."""

    reward: float
    spend_ratio: float


@dataclass(frozen=True, slots=True)
class PeerResult:
    """By budget; ``warm`` with the prior that ships in the package. note: what was run."""

    note: str
    cold: Mapping[float, PeerFigures] = field(default_factory=dict)
    warm: Mapping[float, PeerFigures] = field(default_factory=dict)


def missing_parts() -> list[str]:
    """What would have to be installed for a run."""
    return [name for name in NEEDED if find_spec(name) is None]


def run_peer(
    study: Study,
    budgets_usd: Sequence[float],
    seeds: int,
    on_stage: Callable[[str, int], None] = lambda name, total: None,
    on_step: Callable[[], None] = lambda: None,
) -> PeerResult:
    """The package on the study's rows and seeds, cold and with its own prior; where it cannot
    run, no figures and a note that says what to install."""
    missing = missing_parts()
    if missing:
        return PeerResult(
            note=f"not run: {', '.join(missing)} not installed; pip install paretobandit==0.1.1 "
            "with its dependencies (scikit-learn, joblib, tqdm)"
        )
    try:
        on_stage("paretobandit: embedding prompts", len(study.matrix.prompts))
        features = peer_features(study.matrix.prompts, on_step)
    except ConfigError as error:
        return PeerResult(note=f"not run: {error}")
    on_stage("paretobandit: replaying seeds", 2 * seeds * len(budgets_usd))
    figures: dict[bool, dict[float, PeerFigures]] = {False: {}, True: {}}
    for budget_usd in budgets_usd:
        for warm in figures:
            runs = []
            for seed in range(seeds):
                runs.append(peer_seed(study, features, budget_usd, seed, warm=warm))
                on_step()
            rewards, costs = np.mean(runs, axis=0)
            figures[warm][budget_usd] = PeerFigures(float(rewards), float(costs) / budget_usd)
    return PeerResult(
        note="paretobandit 0.1.1: BanditRouter.create with BudgetPacer (adaptive) and the "
        "package's own hyper-parameters, on its 25 principal components of all-MiniLM-L6-v2 "
        "(int8, first 128 tokens). 'peer' starts cold (priors='none', the tabula rasa "
        "parameters), 'peer_with_prior' from the prior that ships in the package.",
        cold=figures[False],
        warm=figures[True],
    )


def peer_features(prompts: Sequence[str], on_step: Callable[[], None]) -> FloatArray:
    """(N, 26) the package's features of every prompt, the bias last."""
    embedder = MinilmEmbedding(WIDTH)
    service_type = import_module("pareto_bandit.feature_service").FeatureService
    components = import_module("pareto_bandit.config").DEFAULT_PCA_PATH

    def encode(text: str) -> FloatArray:
        on_step()
        request = RoutingRequest(messages=({"role": "user", "content": text},))
        # The package expects the unit vector.
        return np.asarray(embedder.extract(request) / np.sqrt(WIDTH), dtype=np.float64)

    with warnings.catch_warnings():
        # Its components were pickled by another scikit-learn; mean and axes are plain arrays.
        warnings.simplefilter("ignore")
        service = service_type(custom_encoder=encode, embedding_dim=WIDTH, pca_path=components)
        return np.array([service.extract_features(prompt) for prompt in prompts])


def peer_seed(
    study: Study, features: FloatArray, budget_usd: float, seed: int, *, warm: bool
) -> tuple[float, float]:
    """Mean reward and dollars per request on the scored rows, in the order of our own seed."""
    config = import_module("pareto_bandit.config")
    pacing = import_module("pareto_bandit.budget_pacer")
    service_type = import_module("pareto_bandit.feature_service").FeatureService
    router_type = import_module("pareto_bandit.router").BanditRouter
    chosen = config.BEST_K3_HPARAMS if warm else config.BEST_K3_TABULA_RASA_HPARAMS
    logging.getLogger("pareto_bandit").setLevel(logging.ERROR)
    router = router_type.create(
        feature_service=service_type.for_precomputed(features.shape[1]),
        priors="warmup" if warm else "none",
        prior_n_effective=chosen["prior_n_effective"],
        alpha=chosen["alpha"],
        forgetting_factor=chosen["forgetting_factor"],
        cost_penalty=0.0,
        bandit_seed=seed,
        budget_pacer=pacing.BudgetPacer(
            target_avg_spend_usd=budget_usd,
            mode=pacing.PacingMode.ADAPTIVE,
            lr=config.DEFAULT_PACER_LR,
            ema_alpha=config.DEFAULT_PACER_EMA_ALPHA,
            lambda_max=config.DEFAULT_PACER_LAMBDA_MAX,
        ),
    )
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(study.warmup), rng.permutation(study.score)])
    arms = {name: k for k, name in enumerate(study.matrix.models)}
    outcome = np.zeros((order.size, 2))
    for step, row in enumerate(order):
        model, log = router.route(features[row])
        outcome[step] = _outcome(study, int(row), arms[model])
        log.cost_usd = float(outcome[step, 1])
        router.process_feedback(log.request_id, reward=float(outcome[step, 0]))
    reward, cost_usd = outcome[study.warmup.size :].mean(axis=0)
    return float(reward), float(cost_usd)


def _outcome(study: Study, row: int, arm: int) -> tuple[Any, Any]:
    return study.matrix.quality[row, arm], study.matrix.cost_usd[row, arm]
