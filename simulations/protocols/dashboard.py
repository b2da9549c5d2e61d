"""How fast the dashboard is over a long log: each door that its panels ask, and first paint."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np

from bandit_router.config import FeaturesConfig
from bandit_router.errors import DataError
from bandit_router.store import migrate
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine
from bandit_router.store.rollups import Rollups
from simulations.demo.service_process import running_service
from simulations.demo.tally import shuffled
from simulations.demo.workspace import Workspace, prepare, workspace
from simulations.matrix import OutcomeMatrix
from simulations.protocols.dashboard_log import MOST_PROMPTS, fill, prompts_of

BUDGET_USD = 6.6e-4
BAR_MS, PAINT_BAR_MS = 150.0, 1000.0
READY_WITHIN_S = 600.0
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
# What the page asks: one entry a door, at the span it opens with and the widest ones.
DOORS: tuple[tuple[str, str], ...] = (
    ("figures, models, frontier: today", "/admin/stats/summary?window=24h"),
    ("figures, models, frontier: 7 days", "/admin/stats/summary?window=7d"),
    ("figures, models, frontier: 30 days", "/admin/stats/summary?window=30d"),
    ("the same of one tenant", "/admin/stats/summary?window=7d&tenant=acme"),
    ("trend: 15 minutes", "/admin/stats/trend?window=15m"),
    ("trend: today", "/admin/stats/trend?window=24h"),
    ("trend: 7 days", "/admin/stats/trend?window=7d"),
    ("trend: a year", "/admin/stats/trend?window=365d"),
    ("cascades: today", "/admin/stats/cascades?window=24h"),
    ("cascades: a year", "/admin/stats/cascades?window=365d"),
    ("advice: 7 days", "/admin/stats/advice?window=7d"),
    ("advice: a year", "/admin/stats/advice?window=365d"),
    ("topics and lengths: 7 days", "/admin/stats/segments?window=7d"),
    ("topics and lengths: a year", "/admin/stats/segments?window=365d"),
    ("learned policy by feature", "/admin/stats/policy"),
    ("policies", "/admin/policies"),
    ("beliefs", "/admin/policies/thompson"),
    ("exploration", "/admin/exploration?newest_of=100"),
    ("exploration, of the newest 2,000", "/admin/exploration"),
    ("budget", "/admin/budget"),
    ("models and breakers", "/admin/models"),
    ("alarms", "/admin/alarms"),
    ("challengers", "/admin/challengers?limit=6"),
    ("levers", "/admin/live"),
    ("snapshots", "/admin/snapshots?limit=40"),
    ("live decisions", "/admin/decisions?limit=25"),
    ("decisions: of one tenant", "/admin/decisions?limit=25&tenant=acme"),
    ("decisions: of one model", "/admin/decisions?limit=25&model={model}"),
    ("decisions: by mode", "/admin/decisions?limit=25&mode=rule"),
    ("decisions: failed", "/admin/decisions?limit=25&status=server_error"),
    ("decisions: outcome unknown", "/admin/decisions?limit=25&status=unknown"),
    ("decisions: bad", "/admin/decisions?limit=25&reward_high=0.25"),
    ("decisions: not judged", "/admin/decisions?limit=25&has_feedback=false"),
    ("decisions: nothing fits", "/admin/decisions?limit=25&session_id=none-such"),
    ("decisions: a page far back", "/admin/decisions?limit=25&before={middle}"),
    ("decisions: bad, far back", "/admin/decisions?limit=25&reward_high=0.25&before={middle}"),
    ("decisions: of a session", "/admin/decisions?limit=25&session_id=s-100"),
    ("one decision: why", "/admin/decisions/{newest}"),
    ("one decision, far back", "/admin/decisions/{middle}"),
    ("attempts", "/admin/attempts?limit=50"),
    ("attempts: of one model", "/admin/attempts?limit=50&model={model}"),
    ("attempts: failed", "/admin/attempts?limit=50&status=server_error"),
    ("attempts: none such", "/admin/attempts?limit=50&status=context_window"),
    ("calibration", "/admin/calibration"),
    ("beliefs by label", "/admin/segments?key=task"),
    ("sources of feedback", "/admin/feedback/sources"),
    ("audit log", "/admin/audit"),
    ("metrics", "/metrics"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """How long one door took, over all times that it was asked."""

    panel: str
    path: str
    min_ms: float
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Painted:
    """The page in a browser. doors_ms: the slowest answer to each path that it asked itself,
    as the browser saw it, several at a time. note: why there are no figures."""

    first_paint_ms: tuple[float, ...] = ()
    all_panels_ms: tuple[float, ...] = ()
    doors_ms: tuple[tuple[str, float, float], ...] = ()
    note: str = ""


def run_dashboard(
    matrix: OutcomeMatrix,
    decisions: int,
    repeats: int,
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> dict[str, Any]:
    """Fill a Postgres, start the service on it, ask each door ``repeats`` times, load the page.

    Raises DataError where a door refuses, and DemoError where the service does not start.
    """
    # A short log needs few prompts, and each takes its time to read.
    kept = matrix.rows(shuffled(matrix, min(MOST_PROMPTS, decisions // 4), seed=0))
    with workspace(keep=False) as place:
        prepare(place, kept, BUDGET_USD)
        filled = _filled(place, kept, decisions, on_stage, on_step)
        with running_service(place):
            with httpx.Client(base_url=place.url, timeout=60.0, trust_env=False) as client:
                on_stage("the service learns what is there", 1)
                learned_s = _until_it_serves(client)
                on_step()
                doors = _doors(client)
                on_stage("asking doors", repeats)
                asked = _ask(client, doors, repeats, on_step)
            on_stage("loading the page", 1)
            painted = _paint(place.url, repeats)
            on_step()
    return {
        "decisions": decisions,
        **filled,
        "learned_s": learned_s,
        "doors": [asdict(door) for door in asked],
        "page": asdict(painted),
    }


def _filled(
    place: Workspace,
    matrix: OutcomeMatrix,
    decisions: int,
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> dict[str, float]:
    """Write the log and its sums; how long each took, and what it weighs."""
    on_stage("reading prompts", 1)
    config = FeaturesConfig()
    prompts = prompts_of(matrix, config)
    on_step()
    server = EmbeddedPostgres(place.data_dir)
    server.start()
    try:
        return asyncio.run(_write(server.url, config, prompts, decisions, on_stage, on_step))
    finally:
        server.stop()


async def _write(
    url: str,
    config: FeaturesConfig,
    prompts: Any,
    decisions: int,
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> dict[str, float]:
    await migrate.upgrade(url)
    engine = make_engine(url)
    now = datetime.now(UTC)
    try:
        on_stage("writing decisions", decisions)
        begun_s = time.monotonic()
        await fill(engine, prompts, decisions, now, on_step)
        written_s = time.monotonic()
        on_stage("adding up", 1)
        rollups = Rollups(engine, config.metadata)
        while (await rollups.step(now + timedelta(seconds=1))).behind:
            pass
        on_step()
        return {"written_s": written_s - begun_s, "added_up_s": time.monotonic() - written_s}
    finally:
        await engine.dispose()


def _until_it_serves(client: httpx.Client) -> float:
    """Wait until a state fitted from the log serves, so that nothing else takes the processor."""
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < READY_WITHIN_S:
        (serving,) = (p for p in client.get("/admin/policies").json()["policies"] if p["serving"])
        if serving["snapshot_version"] > 0:
            return time.monotonic() - begun_s
        time.sleep(0.1)
    raise DataError(f"the service has learned nothing from the log within {READY_WITHIN_S:g} s")


def _doors(client: httpx.Client) -> list[tuple[str, str]]:
    """The doors, with ids and a model of this log."""
    newest = client.get("/admin/decisions?limit=1").raise_for_status().json()["decisions"][0]
    middle = newest["decision_id"]
    until = datetime.now(UTC) - timedelta(days=15)
    page = client.get("/admin/decisions", params={"limit": 1, "until": until.isoformat()})
    found = page.raise_for_status().json()["decisions"]
    names = {
        "newest": newest["decision_id"],
        "middle": found[0]["decision_id"] if found else middle,
        "model": newest["model"],
    }
    return [(panel, path.format(**names)) for panel, path in DOORS]


def _ask(
    client: httpx.Client,
    doors: Sequence[tuple[str, str]],
    repeats: int,
    on_step: Callable[..., None],
) -> list[Asked]:
    """Every door in turn, again and again: no door is asked twice in a row, and the first round
    of all finds caches as cold as the start of the service leaves them."""
    took: dict[str, list[float]] = {path: [] for _, path in doors}
    for _ in range(repeats):
        for _, path in doors:
            begun_s = time.perf_counter()
            answer = client.get(path)
            took[path].append(1000.0 * (time.perf_counter() - begun_s))
            if not answer.is_success:
                raise DataError(f"{path} answers {answer.status_code}: {answer.text[:300]}")
        on_step()
    return [
        Asked(
            panel,
            path,
            *(float(v) for v in np.percentile(took[path], (0, 50, 95))),
        )
        for panel, path in doors
    ]


def _paint(url: str, repeats: int) -> Painted:
    """Load the page afresh some times, in a browser without a cache."""
    browser = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return Painted(note="the package playwright is not installed")
    if browser is None:
        return Painted(note="no chromium on the PATH")
    paints, whole = [], []
    doors: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        for _ in range(min(repeats, 10)):
            context = opened.new_context(viewport={"width": 1280, "height": 900}, base_url=url)
            page = context.new_page()
            page.goto("/dashboard")
            page.wait_for_selector("#levers table, #levers .empty")
            whole.append(page.evaluate("performance.now()"))
            paints.append(
                page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            )
            timed = page.evaluate(
                "performance.getEntriesByType('resource').filter(e => e.name.includes('/admin/'))"
                ".map(e => [e.name, e.responseEnd - e.requestStart])"
            )
            for name, took_ms in timed:
                doors.setdefault(str(httpx.URL(name).path), []).append(took_ms)
            context.close()
        opened.close()
    return Painted(
        first_paint_ms=tuple(paints),
        all_panels_ms=tuple(whole),
        doors_ms=tuple(
            (path, float(np.median(took)), max(took)) for path, took in sorted(doors.items())
        ),
    )
