"""Which modules of the code are shown, page by page; mkdocstrings writes what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from pkgutil import iter_modules
from types import ModuleType

from bandit_router import features, policies

PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "vocabulary": (
        "Vocabulary",
        "What every other module speaks in: floor 0. It reads no clock, environment or database.",
        ("types", "protocols", "errors"),
    ),
    "mathematics": (
        "Mathematics",
        "Pure functions over immutable states: floor 1.",
        (
            "posterior",
            "heads",
            "evidence",
            "basis",
            "likeness",
            "pmf",
            "choice",
            "exploration",
            "eligibility",
            "constraints",
            "pacing",
            "prices",
            "rewards",
            "trust",
            "alarms",
            "snapshot",
        ),
    ),
    "evaluation": (
        "Off-policy evaluation",
        "[Evaluating other policies](../../evaluation.md) explains it.",
        (
            "ope.evaluation",
            "ope.rounds",
            "ope.targets",
            "ope.options",
            "ope.estimate",
            "ope.result",
        ),
    ),
    "providers": (
        "Providers",
        "A new kind of provider is one file and one line in the registry.",
        ("providers.registry", "providers.openai_compatible", "providers.llama_cpp"),
    ),
    "use-cases": (
        "Use cases",
        "Route, complete, learn, inspect: floor 2. Databases and models come in by protocols.",
        ("router", "completion", "open_stream", "learner", "inspection", "why", "advice"),
    ),
}


def pages() -> dict[str, str]:
    """Every page by its name, in Markdown."""
    found = {name: _page(title, words, modules) for name, (title, words, modules) in PAGES.items()}
    found["policies"] = _page(
        "Policies",
        "A policy is one file and one line in the registry; the conformance suite picks it up.",
        _modules_of(policies, first="base"),
    )
    found["features"] = _page(
        "Feature extractors",
        "[Features](../../features.md) says what they see.",
        _modules_of(features, first="registry"),
    )
    return found


def _modules_of(package: ModuleType, first: str) -> list[str]:
    """Every module of a package, one of them first."""
    names = [module.name for module in iter_modules(package.__path__)]
    names.sort(key=lambda name: (name != first, name))
    return [f"{package.__name__.rpartition('.')[2]}.{name}" for name in names]


def _page(title: str, words: str, modules: Iterable[str]) -> str:
    shown = "\n\n".join(f"::: bandit_router.{module}" for module in modules)
    return f"# {title}\n\n{words}\n\n{shown}\n"
