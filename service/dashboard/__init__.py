"""The operators' page: a few files of our own, and nothing from outside."""

from service.dashboard.routes import dashboard_routes

__all__ = ["dashboard_routes"]
