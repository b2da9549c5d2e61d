"""What to look at once the numbers are in: the admin doors, with a decision of this very run."""

from __future__ import annotations

from uuid import UUID

import httpx

from simulations.demo.clients import call
from simulations.demo.screen import Screen


async def show_paths(
    client: httpx.AsyncClient, screen: Screen, decision_id: UUID, keeps_serving: bool
) -> None:
    """Ask each admin door once, so that no path is shown that does not answer."""
    paths = {
        "/dashboard": "all of it on one page, and live",
        f"/admin/decisions/{decision_id}": "the last decision, drawn again from what was logged",
        "/admin/policies/thompson": "what was learned of each model, feature by feature",
        "/admin/snapshots": "the versions of the learned state",
    }
    for path in paths:
        await call(client, "GET", path)
    screen.say()
    screen.say("Look around:" if keeps_serving else "To look around, run it with --keep-serving:")
    for path, what in paths.items():
        screen.say(f"  {str(client.base_url).rstrip('/')}{path}  {what}")
    screen.say()
