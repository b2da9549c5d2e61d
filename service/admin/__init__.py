"""The operators' doors, one file a theme."""

from __future__ import annotations

from fastapi import APIRouter

from service.admin.alarms import alarm_routes
from service.admin.beliefs import belief_routes
from service.admin.challengers import challenger_routes
from service.admin.control import control_routes
from service.admin.decisions import decision_routes
from service.admin.keys import key_routes
from service.admin.models import model_routes
from service.admin.policies import policy_routes
from service.admin.snapshots import snapshot_routes
from service.admin.sources import source_routes
from service.admin.stats import stats_routes
from service.runtime import Runtime

__all__ = ["admin_routes"]


def admin_routes(runtime: Runtime) -> APIRouter:
    """Every door for operators."""
    routes = APIRouter()
    for part in (
        policy_routes,
        belief_routes,
        decision_routes,
        snapshot_routes,
        model_routes,
        key_routes,
        control_routes,
        alarm_routes,
        source_routes,
        challenger_routes,
        stats_routes,
    ):
        routes.include_router(part(runtime))
    return routes
