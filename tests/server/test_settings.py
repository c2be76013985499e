"""The settings on its way to the workers."""

from tusasgi.server.options import read_arguments
from tusasgi.server.settings import DEFAULTS, Settings

FLAGS = ["log-requests", "interim-responses"]
ALL = {
    "--store": "s3://bucket/prefix",
    "--host": "0.0.0.0",
    "--port": "8080",
    "--path": "/up/",
    "--max-size": "10GiB",
    "--expires-after": "3600",
    "--workers": "4",
    "--cors-origin": "https://example.com",
    "--public-url": "https://example.com/up/",
    "--durability": "append",
    "--hooks": "package.module:hooks",
    "--shutdown-timeout": "1",
    "--header-timeout": "2",
    "--keep-alive": "3",
    "--monitor": "[::1]:9100",
    "--hook-timeout": "4",
    "--hook-format": "tusd",
}


def everything() -> Settings:
    words = [word for option in ALL.items() for word in option]
    command, settings, _ = read_arguments(["serve", *(f"--{flag}" for flag in FLAGS), *words])
    assert command == "serve"
    return settings


def test_each_option_is_the_setting_of_its_name() -> None:
    settings = everything()
    given = {option.removeprefix("--").replace("-", "_") for option in [*ALL, *FLAGS]}
    for name in Settings.__dataclass_fields__:
        is_given = getattr(settings, name) != getattr(DEFAULTS, name)
        assert is_given == (name in given), name


def test_what_is_not_given_is_as_the_defaults_say() -> None:
    assert read_arguments(["serve"]) == ("serve", DEFAULTS, {})


def test_workers_have_the_settings_that_the_command_was_given() -> None:
    for settings in (DEFAULTS, everything()):
        loaded = Settings.load(settings.dump())
        assert loaded.dump() == settings.dump()
        assert loaded.monitor == settings.monitor
        assert type(loaded.monitor) is type(settings.monitor)
