"""The house keeps its floors: who may import whom, and who may look at the world.

A new module gets a line in ``FLOOR_OF``; a new file in a package listed there needs none.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bandit_router", "service", "simulations", "migrations")


class Floor(Enum):
    VOCABULARY = "0 vocabulary"
    MATHEMATICS = "1 mathematics"
    ADAPTERS = "1' adapters"
    USE_CASES = "2 use cases"
    DOORS = "3 doors"


FLOOR_OF = {
    "bandit_router": Floor.VOCABULARY,
    "bandit_router.config": Floor.VOCABULARY,
    "bandit_router.config_base": Floor.VOCABULARY,
    "bandit_router.config_challengers": Floor.VOCABULARY,
    "bandit_router.config_cascade": Floor.VOCABULARY,
    "bandit_router.config_steering": Floor.VOCABULARY,
    "bandit_router.errors": Floor.VOCABULARY,
    "bandit_router.outcome_prior": Floor.VOCABULARY,
    "bandit_router.protocols": Floor.VOCABULARY,
    "bandit_router.traffic": Floor.VOCABULARY,
    "bandit_router.overlay": Floor.VOCABULARY,
    "bandit_router.types": Floor.VOCABULARY,
    "bandit_router.activity": Floor.MATHEMATICS,
    "bandit_router.allowance": Floor.MATHEMATICS,
    "bandit_router.alarms": Floor.MATHEMATICS,
    "bandit_router.basis": Floor.MATHEMATICS,
    "bandit_router.calibration": Floor.MATHEMATICS,
    "bandit_router.breakers": Floor.MATHEMATICS,
    "bandit_router.choice": Floor.MATHEMATICS,
    "bandit_router.circuit": Floor.MATHEMATICS,
    "bandit_router.constraints": Floor.MATHEMATICS,
    "bandit_router.effort": Floor.MATHEMATICS,
    "bandit_router.eligibility": Floor.MATHEMATICS,
    "bandit_router.evidence": Floor.MATHEMATICS,
    "bandit_router.exploration": Floor.MATHEMATICS,
    "bandit_router.failure_rate": Floor.MATHEMATICS,
    "bandit_router.forgetting": Floor.MATHEMATICS,
    "bandit_router.features": Floor.MATHEMATICS,
    "bandit_router.heads": Floor.MATHEMATICS,
    "bandit_router.hierarchy": Floor.MATHEMATICS,
    "bandit_router.ids": Floor.MATHEMATICS,
    "bandit_router.known_rows": Floor.MATHEMATICS,
    "bandit_router.likeness": Floor.MATHEMATICS,
    "bandit_router.learned_state": Floor.MATHEMATICS,
    "bandit_router.bets": Floor.MATHEMATICS,
    "bandit_router.in_blocks": Floor.MATHEMATICS,
    "bandit_router.learning": Floor.MATHEMATICS,
    "bandit_router.limits": Floor.VOCABULARY,
    "bandit_router.ope": Floor.MATHEMATICS,
    "bandit_router.pacing": Floor.MATHEMATICS,
    "bandit_router.pmf": Floor.MATHEMATICS,
    "bandit_router.policies": Floor.MATHEMATICS,
    "bandit_router.posterior": Floor.MATHEMATICS,
    "bandit_router.prices": Floor.MATHEMATICS,
    "bandit_router.prior_rows": Floor.MATHEMATICS,
    "bandit_router.request_text": Floor.MATHEMATICS,
    "bandit_router.rewards": Floor.MATHEMATICS,
    "bandit_router.roster": Floor.MATHEMATICS,
    "bandit_router.selection": Floor.MATHEMATICS,
    "bandit_router.serving": Floor.MATHEMATICS,
    "bandit_router.snapshot": Floor.MATHEMATICS,
    "bandit_router.snapshot_arrays": Floor.MATHEMATICS,
    "bandit_router.trial_evaluation": Floor.MATHEMATICS,
    "bandit_router.trial_evidence": Floor.MATHEMATICS,
    "bandit_router.trial_rows": Floor.VOCABULARY,
    "bandit_router.trial_verdict": Floor.MATHEMATICS,
    "bandit_router.trust": Floor.MATHEMATICS,
    "bandit_router.upstream_limits": Floor.MATHEMATICS,
    "bandit_router.watching": Floor.MATHEMATICS,
    "bandit_router.clock": Floor.ADAPTERS,
    "bandit_router.config_file": Floor.ADAPTERS,
    "bandit_router.config_problems": Floor.ADAPTERS,
    "bandit_router.config_secrets": Floor.ADAPTERS,
    "bandit_router.prior_file": Floor.ADAPTERS,
    "bandit_router.providers": Floor.ADAPTERS,
    "bandit_router.store": Floor.ADAPTERS,
    "bandit_router.toml_lines": Floor.ADAPTERS,
    "migrations": Floor.ADAPTERS,
    "bandit_router.advice": Floor.USE_CASES,
    "bandit_router.advice_on_changes": Floor.USE_CASES,
    "bandit_router.attempts": Floor.USE_CASES,
    "bandit_router.cascade": Floor.USE_CASES,
    "bandit_router.choosers": Floor.USE_CASES,
    "bandit_router.chain_budget": Floor.USE_CASES,
    "bandit_router.completion": Floor.USE_CASES,
    "bandit_router.contender": Floor.USE_CASES,
    "bandit_router.feature_words": Floor.USE_CASES,
    "bandit_router.inspection": Floor.USE_CASES,
    "bandit_router.leanings": Floor.USE_CASES,
    "bandit_router.learner": Floor.USE_CASES,
    "bandit_router.open_stream": Floor.USE_CASES,
    "bandit_router.router": Floor.USE_CASES,
    "bandit_router.snapshot_diff": Floor.USE_CASES,
    "bandit_router.why": Floor.USE_CASES,
    "bandit_router.steering": Floor.USE_CASES,
    "bandit_router.check": Floor.DOORS,
    "bandit_router.cli": Floor.DOORS,
    "bandit_router.cli_inputs": Floor.DOORS,
    "bandit_router.cli_challengers": Floor.DOORS,
    "bandit_router.cli_keys": Floor.DOORS,
    "bandit_router.cli_remote": Floor.DOORS,
    "service": Floor.DOORS,
    "simulations": Floor.DOORS,
}

MAY_IMPORT = {
    Floor.VOCABULARY: {Floor.VOCABULARY},
    Floor.MATHEMATICS: {Floor.VOCABULARY, Floor.MATHEMATICS},
    Floor.ADAPTERS: {Floor.VOCABULARY, Floor.ADAPTERS},
    Floor.USE_CASES: {Floor.VOCABULARY, Floor.MATHEMATICS, Floor.USE_CASES},
    Floor.DOORS: set(Floor),
}

# What a floor may take from outside the standard library; None is anything.
THIRD_PARTY = {
    Floor.VOCABULARY: {"numpy", "pydantic"},
    Floor.MATHEMATICS: {"numpy", "scipy"},
    Floor.ADAPTERS: {
        "aiohttp",
        "alembic",
        "asyncpg",
        "httpx",
        "numpy",
        "orjson",
        "platformdirs",
        "pydantic",
        "sqlalchemy",
        "xllamacpp",
    },
    Floor.USE_CASES: {"numpy"},
    Floor.DOORS: None,
}
# The sentence embedder is an extra: one extractor may load its runtime when it is switched on.
# One check of a cascade knows JSON Schema.
EXTRA_THIRD_PARTY = {
    "bandit_router.features.minilm": {"onnxruntime", "tokenizers"},
    "bandit_router.cascade.json_schema": {"jsonschema", "referencing"},
    "bandit_router.cascade.patterns": {"regex"},
    "bandit_router.config_cascade": {"regex"},
}

# Doors use each other by these entries only; the command line opens them all.
DOOR_ENTRIES = {"service": {"service.run", "service.app"}, "simulations": set[str]()}
THE_COMMAND_LINE = "bandit_router.cli"

PURE = (Floor.VOCABULARY, Floor.MATHEMATICS, Floor.USE_CASES)
THE_WORLD = (
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "numpy.random",
    "os.environ",
    "os.getenv",
    "os.urandom",
    "random",
    "secrets",
    "time",
    "uuid.uuid1",
    "uuid.uuid4",
    "uuid.uuid7",
)
WHOLE_MODULES = ("numpy.random", "random", "secrets", "time")
# Names of generators that somebody seeds and hands in.
HANDED_IN = (
    "numpy.random.Generator",
    "numpy.random.PCG64",
    "numpy.random.Philox",
    "numpy.random.SeedSequence",
    "numpy.random.default_rng",
    "random.Random",
)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem.isidentifier()
}


def _floor(module: str) -> Floor | None:
    if module in FLOOR_OF:
        return FLOOR_OF[module]
    parent = module.rpartition(".")[0]
    # The package bandit_router is no room of its own: its modules are listed one by one.
    return _floor(parent) if parent not in ("", "bandit_router") else None


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module, also those inside functions; ``from a import b`` may give a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else str(node.module)), node.lineno


def import_breaches(module: str, source: str) -> list[str]:
    """What a module imports that its floor forbids, one sentence each."""
    floor = _floor(module)
    assert floor is not None, f"{module} has no floor: give it a line in FLOOR_OF"
    found = []
    for imported, line in _imports(ast.parse(source)):
        top = imported.partition(".")[0]
        if top in PACKAGES:
            target = _floor(imported)
            if target is None:
                found.append(f"{module}:{line} imports {imported}, which has no floor")
            elif target not in MAY_IMPORT[floor]:
                found.append(f"{module}:{line} ({floor.value}) imports {imported} ({target.value})")
            elif (
                floor is Floor.DOORS
                and module != THE_COMMAND_LINE
                and top in DOOR_ENTRIES
                and not module.startswith(top)
                and imported not in DOOR_ENTRIES[top]
            ):
                found.append(f"{module}:{line} reaches into another door: {imported}")
        elif top not in sys.stdlib_module_names:
            allowed = THIRD_PARTY[floor]
            extra = EXTRA_THIRD_PARTY.get(module, set())
            if allowed is not None and top not in allowed | extra:
                found.append(f"{module}:{line} ({floor.value}) imports {top} from outside")
    return found


def world_breaches(source: str) -> list[str]:
    """Where a source reads clock, environment or a random generator nobody handed it."""
    tree = ast.parse(source)
    meaning: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                meaning[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                meaning[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def dotted(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return meaning.get(node.id)
        if isinstance(node, ast.Attribute):
            inner = dotted(node.value)
            return f"{inner}.{node.attr}" if inner else None
        return None

    found = set()
    for node in ast.walk(tree):
        name = dotted(node)
        if name is not None and name.startswith(HANDED_IN):
            continue
        # A bare module (``time``, ``numpy.random``) leads up to a function, reported itself.
        within = tuple(f"{item}." for item in THE_WORLD)
        if name and (name in set(THE_WORLD) - set(WHOLE_MODULES) or name.startswith(within)):
            found.add(f"line {node.lineno}: {name}")
        if isinstance(node, ast.Call) and not node.args and not node.keywords:
            called = dotted(node.func)
            if called in HANDED_IN:
                found.add(f"line {node.lineno}: {called}() without a seed")
    return sorted(found)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_floor_downwards(module: str) -> None:
    assert import_breaches(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize("module", [m for m in MODULES if _floor(m) in PURE])
def test_pure_floors_read_no_clock_environment_or_global_generator(module: str) -> None:
    assert world_breaches(MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bandit_router.types", "import bandit_router.router"),
        ("bandit_router.pmf", "from bandit_router.store import engine"),
        ("bandit_router.pmf", "def f():\n    import sqlalchemy"),
        ("bandit_router.store.engine", "from bandit_router.policies import POLICIES"),
        ("bandit_router.router", "from bandit_router.providers.sse import x"),
        ("bandit_router.router", "from bandit_router import cli"),
        ("service.app", "from simulations.replay import x"),
        ("bandit_router.router", "import bandit_router.nowhere"),
    ],
)
def test_the_check_itself_sees_a_forbidden_import(module: str, line: str) -> None:
    assert len(import_breaches(module, line)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime as dt\ndt.now()",
        "from time import monotonic\nmonotonic()",
        "import time as t\nt.time()",
        "import os\nos.environ['X']",
        "from os import environ\nenviron['X']",
        "import random\nrandom.shuffle([])",
        "from random import choice\nchoice([1])",
        "import numpy as np\nnp.random.rand(3)",
        "import numpy as np\nnp.random.default_rng()",
        "from random import Random\nRandom()",
        "from uuid import uuid4\nuuid4()",
    ],
)
def test_the_check_itself_sees_a_look_at_the_world(source: str) -> None:
    assert world_breaches(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\ndef f(rng: np.random.Generator): return rng.random()",
        "import numpy as np\nnp.random.default_rng(7)",
        "from random import Random\nRandom(7)",
        "from datetime import datetime\ndef f(now: datetime): return now.date()",
    ],
)
def test_the_check_itself_lets_handed_in_generators_pass(source: str) -> None:
    assert world_breaches(source) == []


IMPORT_EVERYTHING = """
import importlib, json, logging, os, sys, threading

effects = []
def watch(event, arguments):
    if event in ("socket.bind", "socket.connect", "subprocess.Popen", "os.mkdir", "os.remove"):
        effects.append(f"{importing}: {event} {arguments[1:]}")
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        # The interpreter's own bytecode, and nothing else, may be written.
        if "__pycache__" not in str(arguments[0]):
            effects.append(f"{importing}: writes {arguments[0]}")

# Polars sets its allocator's variable when first imported; it may be inherited, too.
os.environ.pop("_RJEM_MALLOC_CONF", None)
before = dict(os.environ)
importing = ""
sys.addaudithook(watch)
for importing in json.loads(sys.argv[1]):
    importlib.import_module(importing)
    if threading.active_count() > 1:
        effects.append(f"{importing}: started a thread")
        break
    if logging.getLogger().handlers:
        effects.append(f"{importing}: set up logging")
        break
after = {k: v for k, v in os.environ.items() if k != "_RJEM_MALLOC_CONF"}
if after != before:
    effects.append(f"an import changed the environment: {set(after.items()) ^ set(before.items())}")
print(json.dumps(effects))
"""


def test_imports_open_no_socket_start_no_thread_and_write_no_file() -> None:
    modules = [name for name in MODULES if not name.startswith("migrations.")]
    result = subprocess.run(
        # -B: compiled bytecode is Python's own writing, not an effect of the module.
        [sys.executable, "-B", "-W", "error", "-c", IMPORT_EVERYTHING, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []
