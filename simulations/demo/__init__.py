"""The demo: recorded prompts through the running service, beside fixed choices on the same."""

from simulations.demo.run import DemoOptions, run_demo

__all__ = ["DemoOptions", "run_demo"]
