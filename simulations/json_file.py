"""Results as JSON files, where ``--json`` asks for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path | None, told: Any) -> None:
    """Write a result to ``path``; nothing where no path was given."""
    if path is not None:
        path.write_text(json.dumps(told, indent=2) + "\n")
