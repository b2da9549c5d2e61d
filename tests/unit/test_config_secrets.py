"""Secrets: refused in the file, never repeated in a message, missed where they are unset."""

from pathlib import Path

import pytest

from bandit_router.config import RouterConfig
from bandit_router.config_file import load_config
from bandit_router.config_secrets import missing_secrets
from bandit_router.errors import ConfigError

MODEL = '[[models]]\nname = "a"\nbase_url = "http://127.0.0.1:1/v1"\n'


@pytest.mark.parametrize(
    ("text", "secret", "advice"),
    [
        (f'{MODEL}api_key = "hunter2-hunter2"\n', "hunter2-hunter2", "api_key_env"),
        (f'{MODEL}token = "hunter2"\n', "hunter2", "api_key_env"),
        (f'{MODEL}my_secret = "hunter2"\n', "hunter2", "api_key_env"),
        (
            f'{MODEL}api_key_env = "sk-proj-abcdefghijklmnop"\n',
            "sk-proj-abcdefghijklmnop",
            "api_key_env",
        ),
        (
            f'{MODEL}api_key_env = "gsk_abcdefghijklmnopqrst"\n',
            "gsk_abcdefghijklmnopqrst",
            "api_key_env",
        ),
        (
            '[[models]]\nname = "a"\nbase_url = "ftp://u:hunter2@h/v1"\n',
            "hunter2",
            "Drop it from the URL",
        ),
        (f'{MODEL}[store]\nurl = "postgresql://u:hunter2@h/d"\n', "hunter2", "DATABASE_URL"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(
    tmp_path: Path, text: str, secret: str, advice: str
) -> None:
    path = tmp_path / "router.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "must not stand in this file" in message
    assert advice in message
    assert secret not in message
    line = next(i for i, row in enumerate(text.splitlines(), 1) if secret in row)
    assert f"router.toml:{line}: " in message


@pytest.mark.parametrize(
    "text",
    [
        f"{MODEL}[server]\nrequire_api_key = true\n",
        f'{MODEL}api_key_env = "SK_PROJECT_KEY"\n',
        '[[models]]\nname = "sk-small"\nbase_url = "http://user@h/v1"\n',
        f'{MODEL}[features]\nmetadata = ["token_count"]\n',
        f'{MODEL}[store]\nurl = "postgresql://router@db.example.com:5432/router"\n',
    ],
)
def test_what_only_sounds_like_a_secret_passes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "router.toml"
    path.write_text(text)
    load_config(path)


def test_models_without_their_variable_are_listed() -> None:
    models = [
        {"name": name, "base_url": "http://h/v1", "api_key_env": variable}
        for name, variable in [("set", "A"), ("unset", "B"), ("empty", "C"), ("open", None)]
    ]
    config = RouterConfig.model_validate({"models": models})
    assert missing_secrets(config, {"A": "x", "C": " "}) == {"unset": "B", "empty": "C"}
