"""Ways to choose a model."""

from bandit_router.policies.base import Beliefs, Context, Evidence, Policy, PolicyOptions, Rows
from bandit_router.policies.registry import POLICIES, build_policy

__all__ = [
    "POLICIES",
    "Beliefs",
    "Context",
    "Evidence",
    "Policy",
    "PolicyOptions",
    "Rows",
    "build_policy",
]
