"""Runs the blocks of a documentation page one after the other, as its reader would.

``sh`` and ``python`` blocks are run, each language with its variables kept from block to block; a
``toml`` or ``json`` block with a title is written to the file that it names, or added to it
under "Add to"; any other block is prose. A ``sh`` block under "Leave this running" goes on in the
background once it listens. In HTML comments a page may hold checks that its readers do not see
(``invisible-code: python``), and may leave a block out (``skip: next``).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
from sybil import Document, Example, Region
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

# The address of every page; a test takes a free port in its place.
PORT = "8800"
BACKGROUND = "Leave this running"
ADDITION = "Add to "
START_TIMEOUT_S = 90.0
BLOCK_TIMEOUT_S = 120.0
INFO = re.compile(r'(?P<language>sh|python|toml|json)(?: title="(?P<title>[^"]+)")?$\n', re.M)
# What a reader's shell keeps between blocks: variables. And the port that serve listens on.
PRELUDE = """
set -euo pipefail
state="$PAGE_STATE"
if [ -f "$state" ]; then source "$state"; fi
kept='^declare -(-|x) [A-Za-z][A-Za-z0-9_]*="[^"]*"$'
trap '{ declare -p | grep -E "$kept"; declare -f; } > "$state"' EXIT
bandit-router() {
  # In the shell's place, so that whoever ends the shell ends it, and waits for its end.
  if [ "${1:-}" = serve ]; then exec bandit-router "$@" --port "$PAGE_PORT"; fi
  command bandit-router "$@"
}
"""


class PageReader:
    """A reader with a folder, a shell, a Python session and a port; leaves no process behind.

    Several pages may be read in a row: what one started goes on for the next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.names: dict[str, Any] = {"__name__": "page"}
        self._background: list[subprocess.Popen[bytes]] = []
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATABASE_URL", "BANDIT_ROUTER_CONFIG", "BANDIT_ROUTER_API_KEY")
        } | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "BANDIT_ROUTER_URL": f"http://127.0.0.1:{self.port}",
            "PAGE_PORT": str(self.port),
            "PAGE_STATE": str(folder / ".shell-state"),
            "COLUMNS": "100",
        }

    def read(self, page: Path) -> int:
        """Run every block of a page; returns how many. Raises at the first that fails."""
        document = Document.parse(str(page), self._blocks, SkipParser())
        count = 0
        with contextlib.chdir(self.folder):
            for example in document.examples():
                example.evaluate()
                count += 1
        return count

    def close(self) -> None:
        """End what was left running, the last first, and the connections of the Python session."""
        for value in self.names.values():
            if isinstance(value, httpx.Client):
                value.close()
        for process in reversed(self._background):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(START_TIMEOUT_S)
            if process.poll() is None:
                process.kill()
                process.wait()

    def _blocks(self, document: Document) -> Iterator[Region]:
        for region in _regions(document):
            region.parsed = region.lexemes["source"].text.replace(PORT, str(self.port))
            region.evaluator = self._run
            yield region

    def _run(self, example: Example) -> None:
        language, title = example.region.lexemes["language"], example.region.lexemes["title"]
        where = f"{Path(example.path).name}:{example.line}"
        if language == "python":
            code = compile("\n" * example.line + example.parsed, example.path, "exec")
            exec(code, self.names)
        elif language == "sh" and title == BACKGROUND:
            self._start(example.parsed, where)
        elif language == "sh":
            self._shell(example.parsed, where)
        elif title is not None and title.startswith(ADDITION):
            with Path(title.removeprefix(ADDITION)).open("a") as file:
                file.write(f"\n{example.parsed}")
        elif title is not None:
            Path(title).write_text(example.parsed)

    def _shell(self, source: str, where: str) -> None:
        done = subprocess.run(
            ["bash", "-c", PRELUDE + source],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{where}: {done.stdout}{done.stderr}"
        # A later check may look at what the reader saw.
        self.names["seen"] = done.stdout + done.stderr

    def _start(self, source: str, where: str) -> None:
        log_path = self.folder / f"left-running-{len(self._background)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", PRELUDE + source],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._background.append(process)
        deadline = time.monotonic() + START_TIMEOUT_S
        while "listens on" not in (said := log_path.read_text(errors="replace")):
            assert process.poll() is None, f"{where}: {said}"
            assert time.monotonic() < deadline, f"{where}: {said}"
            time.sleep(0.05)


def _regions(document: Document) -> Iterable[Region]:
    yield from RawFencedCodeBlockLexer(INFO)(document)
    hidden = DirectiveInHTMLCommentLexer(
        directive="invisible-code",
        arguments="python|sh",
        mapping={"arguments": "language", "source": "source"},
    )
    for region in hidden(document):
        region.lexemes["title"] = None
        yield region


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
