"""The command line as a user meets it: its output and its exit code."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from bandit_router import __version__
from bandit_router.cli import run

ROOT = Path(__file__).parents[2]
MODEL = '[[models]]\nname = "a"\nbase_url = "http://127.0.0.1:1/v1"\nlocal = true\n'


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Command(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that the embedded Postgres' own user may reach, which pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="br-cli-") as made:
        Path(made).chmod(0o755)
        monkeypatch.chdir(made)
        yield Path(made)


@pytest.fixture
def command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    for name in ("DATABASE_URL", "BANDIT_ROUTER_CONFIG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


def test_help_names_every_command_and_where_a_newcomer_starts(command: Command) -> None:
    result = command("--help")
    assert result.code == 0
    assert "bandit-router demo" in result.out
    for name in ("demo", "serve", "check", "migrate", "simulate"):
        assert f" {name} " in result.out
        assert command(name, "--help").code == 0


def test_help_loads_none_of_the_heavy_modules() -> None:
    code = (
        "import sys; from bandit_router.cli import run; code = run(['serve', '--help']); "
        "print([m for m in ('numpy', 'scipy', 'sqlalchemy', 'fastapi', 'asyncio', 'polars') "
        "if m in sys.modules], code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[] 0"


def test_an_error_leaves_the_process_with_one_line_and_exit_code_2(folder: Path) -> None:
    program = [sys.executable, "-c", "from bandit_router.cli import main; main()"]
    environ = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    arguments = ["migrate", "--url", "postgresql://u@127.0.0.1:1/d"]
    plain, debug = (
        subprocess.run(
            [*program, *flags, *arguments],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        for flags in ([], ["--debug"])
    )
    assert plain.returncode == 2
    assert plain.stderr.startswith("error: no database at postgresql")
    assert len(plain.stderr.splitlines()) == 1
    assert "Traceback" in debug.stderr


def test_version_is_the_package_s(command: Command) -> None:
    assert command("--version") == (0, f"bandit-router {__version__}\n", "")


def test_a_mistyped_command_is_corrected(command: Command) -> None:
    result = command("chek")
    assert result.code == 2
    assert "Did you mean 'check'?" in result.err


def test_the_example_is_valid_without_keys_and_names_those_it_lacks(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OPENAI_API_KEY": "", "OPENROUTER_API_KEY": "x"}.items():
        monkeypatch.setenv(name, value)
    result = command("check", str(ROOT / "router.example.toml"))
    assert result.code == 0
    assert "router.example.toml is valid: 5 models" in result.out
    assert "warning: model 'gpt-5' has no key: set the environment variable OPENAI_API_KEY" in (
        result.err
    )
    assert "OPENROUTER_API_KEY" not in result.err


def test_check_reports_every_problem_and_fails(folder: Path, command: Command) -> None:
    (folder / "router.toml").write_text(MODEL + "[policy]\nnam = 1\n[fallback]\nnum_retries=-1\n")
    result = command("check")
    assert result.code == 2
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [
        "router.toml:6",
        "router.toml:8",
    ]


@pytest.mark.parametrize(
    ("extra", "ok", "told"),
    [
        ("", True, []),
        ('[policy]\nname = "tomson"\n', False, ["no policy 'tomson'; known: capability"]),
        ("[policy]\nx = 1\n", False, ["router.toml:6: policy.x: unknown key 'x'"]),
    ],
)
def test_check_speaks_json(
    folder: Path, command: Command, extra: str, ok: bool, told: list[str]
) -> None:
    (folder / "router.toml").write_text(MODEL + extra)
    result = command("check", "router.toml", "--json")
    report = json.loads(result.out)
    assert (report["ok"], result.code) == (ok, 0 if ok else 2)
    assert len(report["problems"]) == len(told)
    for problem, part in zip(report["problems"], told, strict=True):
        assert part in problem


def test_check_warns_of_what_will_not_work(folder: Path, command: Command) -> None:
    text = (
        '[[models]]\nname = "a"\nbase_url = "http://127.0.0.1:1/v1"\napi_key_env = "NOT_SET_HERE"\n'
        '[[models]]\nname = "b"\nprovider = "replayed"\npath = "gone.parquet"\n'
    )
    (folder / "router.toml").write_text(text)
    report = json.loads(command("check", "--json").out)
    assert report["ok"]
    assert report["warnings"] == [
        "model 'a' has no key: set the environment variable NOT_SET_HERE",
        "model 'b': there is no file gone.parquet",
        "no local model ends the chain: when the network fails, so does every request; "
        "router.example.toml shows one",
    ]


def test_a_missing_file_says_how_to_make_one_in_one_line(command: Command) -> None:
    result = command("check", "absent.toml")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "cp router.example.toml router.toml" in result.err


def test_migrate_brings_the_embedded_database_up_and_then_has_nothing_to_do(
    folder: Path, command: Command
) -> None:
    (folder / "router.toml").write_text(MODEL + '[store]\ndata_dir = "data"\n')
    first, second = command("migrate"), command("migrate")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("the schema went from nothing to revision ")
    assert "nothing to do" in second.out


def test_a_key_is_shown_once_listed_by_its_hint_and_revoked_for_good(
    folder: Path, command: Command
) -> None:
    (folder / "router.toml").write_text(MODEL + '[store]\ndata_dir = "data"\n')
    made = command("keys", "create", "web shop", "--scope", "route")
    clear = made.out.strip()
    assert made.code == 0
    assert clear.startswith("br-")
    listed = command("keys", "list").out
    assert "web shop\tdefault\troute\t" in listed
    assert listed.rstrip().endswith("valid")
    assert clear not in listed
    assert command("keys", "revoke", "1").code == 0
    assert "revoked 20" in command("keys", "list").out
    again = command("keys", "revoke", "1")
    assert (again.code, again.err) == (
        2,
        "error: no valid key 1: bandit-router keys list shows them\n",
    )


def test_an_unknown_scope_is_refused_with_the_known_ones(command: Command) -> None:
    result = command("keys", "create", "x", "--scope", "root")
    assert result.code == 2
    assert "no scope 'root': choose from route, feedback, admin" in result.err
