"""The locator: which line a key path stands on."""

import tomllib

import pytest

from bandit_router.toml_lines import KeyPath, key_lines, line_of

DOCUMENT = '''\
# a comment with [brackets] and = signs
title = "a # not a comment"

[[models]]            # 4
name = "first"
capabilities = [
  "tools",  # ] not the end
  "vision",
]

[[models]]
name = 'second'
path = """
name = "inside a string"
[[models]]
"""
prices.input = 1.5

[models.extra]        # a table of the second model
deep = { a = 1, b = [1, { c = "}" }] }

[rewards."thumbs up"]
range = [0, 1]
when = 2026-01-01 10:00:00
[server]
port = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("models",), 4),
        (("models", 0), 4),
        (("models", 0, "name"), 5),
        (("models", 0, "capabilities"), 6),
        (("models", 0, "capabilities", 1), 8),
        (("models", 1), 11),
        (("models", 1, "name"), 12),
        (("models", 1, "path"), 13),
        (("models", 1, "prices", "input"), 17),
        (("models", 1, "extra"), 19),
        (("models", 1, "extra", "deep", "b", 1, "c"), 20),
        (("rewards", "thumbs up"), 22),
        (("rewards", "thumbs up", "range", 1), 23),
        (("server", "port"), 26),
    ],
)
def test_every_key_path_is_found_on_its_line(path: KeyPath, line: int) -> None:
    assert key_lines(DOCUMENT)[path] == line


def _paths(value: object, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, item in value.items():
            found |= _paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found |= _paths(item, (*path, index))
    return found


def test_the_locator_knows_the_very_paths_that_the_parser_finds() -> None:
    assert set(key_lines(DOCUMENT)) == _paths(tomllib.loads(DOCUMENT))


@pytest.mark.parametrize(
    "scalar",
    [
        '"""ends in quotes"""""',
        "'''ends in quotes'''''",
        '"""a \\""" inside"""',
        "'''a\n'' b\n'''",
        '"\\\\"',
        "'c:\\'",
        "-1_000.5e-3",
        "inf",
        "true",
        "1979-05-27T07:32:00Z",
        "1979-05-27 07:32:00.5",
        "07:32:00",
        "[[], [1, [2,],],]",
        "{}",
        "{ a.b = 1, 'c d' = [ '#' ] }",
    ],
)
def test_keys_after_any_kind_of_value_are_still_found(scalar: str) -> None:
    document = f"before = 0\nvalue = {scalar} # end\nafter = 1\n"
    lines = key_lines(document)
    assert set(lines) == _paths(tomllib.loads(document))
    assert lines[("after",)] == 3 + scalar.count("\n")


def test_nested_arrays_of_tables_count_per_parent() -> None:
    document = "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n"
    lines = key_lines(document)
    assert [lines[p] for p in [("a", 0, "b", 1, "x"), ("a", 1, "b", 0, "x")]] == [5, 8]
    assert set(lines) == _paths(tomllib.loads(document))


def test_an_absent_key_falls_back_to_the_table_around_it() -> None:
    lines = key_lines(DOCUMENT)
    assert line_of(lines, ("models", 1, "base_url")) == 11
    assert line_of(lines, ("policy", "name")) is None


def test_an_empty_document_has_no_lines() -> None:
    assert key_lines("") == {}
    assert key_lines("  # nothing\n\n") == {}
