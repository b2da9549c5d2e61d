"""On which line of a TOML text does a key stand? ``tomllib`` parses, but does not say."""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_KEY = re.compile(r'[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'')
_SCALAR = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    # A date may be parted from its time by one space.
    r"|[^\s,\]}#]+(?: \d\d:[^\s,\]}#]+)?",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map every key path of a valid TOML document to its line, counted from 1.

    Items of arrays, and of arrays of tables, are paths with their index: ``("models", 1,
    "name")``. A table's own path maps to its header, or to the first key that implies it.
    The text must have passed ``tomllib``: on any other the answer means nothing.
    """
    return _Scanner(text).document()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of a key path, or of the nearest table around it; None for the whole file."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


class _Scanner:
    """Walks the text once, by recursive descent, noting where each path starts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._last_index: dict[KeyPath, int] = {}

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while not self._ended():
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _ended(self) -> bool:
        self._skip_blank()
        return self._at >= len(self._text)

    def _skip_blank(self) -> None:
        self._take(_BLANK)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"not TOML at offset {self._at}: parse the text with tomllib first")
        self._at = match.end()
        return match.group()

    def _note(self, path: KeyPath, offset: int) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, offset) + 1)

    def _header(self) -> KeyPath:
        start = self._at
        array = self._text.startswith("[[", start)
        self._at += 2 if array else 1
        path: KeyPath = ()
        keys = self._dotted_key()
        for key in keys[:-1]:
            path = self._enter((*path, key), start)
        path = (*path, keys[-1])
        if array:
            self._note(path, start)
            self._last_index[path] = self._last_index.get(path, -1) + 1
        path = self._enter(path, start)
        self._at += 2 if array else 1
        return path

    def _enter(self, path: KeyPath, offset: int) -> KeyPath:
        """Note a table; in an array of tables, step into its latest."""
        self._note(path, offset)
        if path in self._last_index:
            path = (*path, self._last_index[path])
            self._note(path, offset)
        return path

    def _dotted_key(self) -> list[str]:
        keys = []
        while True:
            self._skip_blank()
            # tomllib itself undoes quotes and escapes.
            keys.append(next(iter(tomllib.loads(self._take(_KEY) + " = 0"))))
            self._skip_blank()
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        self._skip_blank()
        while self._text[self._at] != "]":
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1
            self._comma()
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        self._skip_blank()
        while self._text[self._at] != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip_blank()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip_blank()
