"""A synthetic world whose truth is known: for tests, teaching and trying things out."""

from simulations.world.contexts import Contexts
from simulations.world.traffic import Traffic, simulate_traffic
from simulations.world.truth import Change, World, WorldModel, make_world
from simulations.world.worlds import WORLDS, named_world

__all__ = [
    "WORLDS",
    "Change",
    "Contexts",
    "Traffic",
    "World",
    "WorldModel",
    "make_world",
    "named_world",
    "simulate_traffic",
]
