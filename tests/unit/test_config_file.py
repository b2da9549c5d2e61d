"""Loading: what is right comes as a tree, what is wrong as one error that names every place."""

from pathlib import Path

import pytest

from bandit_router.config import ProviderKind, RouterConfig
from bandit_router.config_file import DEFAULT_CONFIG, load_config
from bandit_router.errors import ConfigError

ONE_MODEL = '[[models]]\nname = "a"\nbase_url = "http://127.0.0.1:1/v1"\n'


def _write(folder: Path, text: str) -> Path:
    path = folder / "router.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _problems(folder: Path, text: str) -> list[str]:
    path = _write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert all(problem.startswith(f"{path}") for problem in caught.value.problems)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}") for problem in caught.value.problems]


def test_the_example_shows_three_paid_models_a_local_server_and_a_last_resort() -> None:
    config = load_config(Path(__file__).parents[2] / "router.example.toml")
    paid = [model for model in config.models if model.api_key_env]
    assert len(paid) == 3
    assert all(model.input_usd_per_million > 0 for model in paid)
    servers = [m for m in config.routable if m.local]
    assert [m.provider for m in servers] == [ProviderKind.OPENAI_COMPATIBLE]
    assert [m.provider for m in config.last_resorts] == [ProviderKind.LLAMA_CPP]


def test_values_in_the_example_that_claim_to_be_defaults_are(tmp_path: Path) -> None:
    example = load_config(Path(__file__).parents[2] / "router.example.toml")
    bare = load_config(_write(tmp_path, ONE_MODEL))
    for section in ("policy", "features", "exploration", "fallback", "store", "server"):
        assert getattr(example, section) == getattr(bare, section)
    assert example.rewards["quality"] == bare.rewards["quality"]


def test_the_default_configuration_needs_no_key_and_no_network() -> None:
    config = load_config(DEFAULT_CONFIG)
    assert [(m.provider, m.local, m.api_key_env) for m in config.models] == [
        (ProviderKind.LLAMA_CPP, True, None)
    ]


def test_every_problem_of_a_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = (
        '[[models]]\nname = "a"\nbase_ulr = "http://h/v1"\n'
        '[[models]]\nprovider = "llama_cp"\n'
        "[fallback]\nnum_retries = 30\n"
        '[rewards.ok]\ntype = "flot"\n'
    )
    assert _problems(tmp_path, text) == [
        ":3: models[0].base_ulr (model 'a'): unknown key 'base_ulr'; did you mean 'base_url'?",
        ":4: models[1].name: 'name' is required: add name = \"my-model\"",
        ':5: models[1].provider: "llama_cp" is none of openai_compatible, litellm, llama_cpp, '
        "replayed; did you mean 'llama_cpp'?",
        ":7: fallback.num_retries: 30 cannot be used: input should be less than or equal to 10",
        ":9: rewards.ok.type: \"flot\" is none of boolean, float; did you mean 'float'?",
    ]


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("polcy = 1", ":1: polcy: unknown key 'polcy'; did you mean 'policy'?"),
        ("deadline_s = 1", ":1: deadline_s: unknown key 'deadline_s'; it belongs into [fallback]"),
        (
            "zzz = 1",
            ":1: zzz: unknown key 'zzz'; known here: alerts, cache, cascades, challengers, "
            "exploration, "
            "fallback, features, feedback, learner, limits, models, policy, rewards, rules, "
            "server, sessions, store, tenants, tiers, tracing, workflows",
        ),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_meant(
    tmp_path: Path, key: str, remedy: str
) -> None:
    assert _problems(tmp_path, f"{key}\n{ONE_MODEL}") == [remedy]


def test_a_shortened_key_is_answered_with_the_whole_one(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, f"{ONE_MODEL}[policy]\nbudget = 1\n")
    assert problem == (
        ":5: policy.budget: unknown key 'budget'; did you mean 'budget_usd_per_day'?"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ": models: declare at least one [[models]] table"),
        ("models = []\n", ":1: models: declare at least one [[models]] table"),
        ('models = "x"\n', 'shows one of every kind; got "x"'),
        ("models = [1]\n", ":1: models[0]: 1 cannot be used: models[0] is a table"),
        (f"server = 3\n{ONE_MODEL}", ":1: server: 3 cannot be used: server is a table"),
        (f"{ONE_MODEL}[rewards.3x]\n", ':4: rewards.3x: "3x" cannot be used: a metric\'s name'),
        (f"{ONE_MODEL}[rewards.x]\nrange = [1, 0]\n", ":4: rewards.x: range [1.0, 0.0] must rise"),
        ('[[models]]\nname = "a b"\nbase_url = "http://h"\n', ':2: models[0].name: "a b" cannot'),
        ('[[models]]\nname = "a"\n', ":1: models[0]: model 'a' needs base_url"),
        (f"{ONE_MODEL}last_resort = true\n", "is last_resort but not local"),
        (f'{ONE_MODEL}[policy]\nname = "fixed"\n', "policy 'fixed' needs model = one of a"),
        (f"{ONE_MODEL}input_usd_per_million = nan\n", ":4: models[0].input_usd_per_million (model"),
        (f"{ONE_MODEL}input_usd_per_million = -1\n", "-1 cannot be used: input should be greater"),
    ],
)
def test_each_mistake_is_named_with_its_place_and_remedy(
    tmp_path: Path, text: str, told: str
) -> None:
    (problem,) = _problems(tmp_path, text)
    assert told in problem


def test_a_name_declared_twice_points_at_both_lines(tmp_path: Path) -> None:
    assert _problems(tmp_path, ONE_MODEL + ONE_MODEL) == [
        ":5: models[1].name: model 'a' is declared on line 2 already: names must be unique"
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a = 1\nname = foo\n", ":2:8: not valid TOML: Invalid value"),
        ("[[models]\n", ":1:9: not valid TOML"),
        ("[a]\nb = 1\nb = 2\n", ":3:6: not valid TOML: Cannot overwrite a value"),
        ('a = 1\nb = "open', ":2: not valid TOML: Unterminated string"),
    ],
)
def test_a_syntax_error_names_line_and_column(tmp_path: Path, text: str, where: str) -> None:
    (problem,) = _problems(tmp_path, text)
    assert problem.startswith(where)


def test_a_syntax_error_does_not_repeat_a_value_that_may_be_secret(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, "api_key = sk-not-quoted-but-secret\n")
    assert "sk-not" not in problem


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cp router\.example\.toml router\.toml"):
        load_config(tmp_path / "router.toml")


def test_a_folder_in_place_of_the_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_bytes_that_are_not_utf_8_are_said_so(tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(ConfigError, match="byte 11 is not UTF-8"):
        load_config(path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_bytes(b"\xef\xbb\xbf" + ONE_MODEL.replace("\n", "\r\n").encode())
    assert isinstance(load_config(path), RouterConfig)


def test_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    text = (
        '[[models]]\nname = "a"\nprovider = "llama_cpp"\nlocal = true\npath = "m/x.gguf"\n'
        '[[models]]\nname = "b"\nprovider = "llama_cpp"\nlocal = true\npath = "/abs/x.gguf"\n'
        '[store]\ndata_dir = "~/data"\n'
    )
    config = load_config(_write(tmp_path, text))
    assert config.models[0].path == tmp_path / "m/x.gguf"
    assert config.models[1].path == Path("/abs/x.gguf")
    assert config.store.data_dir == Path.home() / "data"
