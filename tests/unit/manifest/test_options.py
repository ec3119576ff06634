"""The operator's values for options and secrets."""

from dataclasses import replace
from pathlib import Path

import pytest

from timebase.errors import ConfigError
from timebase.manifest.manifest import Manifest, Option, RateWindow, Secret
from timebase.manifest.options import resolve_options, resolve_secrets
from timebase.manifest.overrule import overrule
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval

MANIFEST = Manifest(
    slug="acme",
    name="Acme",
    version="1",
    entrypoint="provider.py:Acme",
    folder=Path("acme"),
    asset_classes=frozenset({AssetClass.STOCK}),
    intervals=frozenset({Interval.D1}),
    rate_limits=(RateWindow(60, 60.0),),
    options={
        "timeout": Option("int", "Seconds", default=30, minimum=1, maximum=60),
        "ratio": Option("float", default=0.5),
        "mode": Option("str", default="fast", choices=("fast", "slow")),
        "is_on": Option("bool", default=False),
        "names": Option("list"),
        "columns": Option("map"),
    },
    secrets={"api_key": Secret("The key", "ACME_KEY"), "extra": Secret("", "ACME_EXTRA", required=False)},
)


def test_defaults_stand_where_nothing_is_set() -> None:
    assert resolve_options(MANIFEST, {}) == {
        "timeout": 30,
        "ratio": 0.5,
        "mode": "fast",
        "is_on": False,
        "names": None,
        "columns": None,
    }


def test_text_from_the_environment_becomes_the_type_of_the_option() -> None:
    given = {"timeout": "45", "ratio": "1", "is_on": "yes", "names": '["a"]', "columns": '{"time": "Date"}'}
    assert resolve_options(MANIFEST, given) == {
        "timeout": 45,
        "ratio": 1.0,
        "mode": "fast",
        "is_on": True,
        "names": ["a"],
        "columns": {"time": "Date"},
    }


def test_all_faults_come_at_once() -> None:
    given = {"timeout": 99, "ratio": "nan", "mode": "warp", "is_on": 3, "names": "a", "columns": [], "timeot": 1}
    with pytest.raises(ConfigError) as caught:
        resolve_options(MANIFEST, given)
    assert caught.value.faults == (
        "acme: unknown option `timeot`; write `timeout`",
        "acme: option `timeout` is 99 but must be at most 60",
        "acme: option `ratio` is 'nan' but must be of type float",
        "acme: option `mode` is 'warp' but must be one of: fast, slow",
        "acme: option `is_on` is 3 but must be of type bool",
        "acme: option `names` is 'a' but must be of type list",
        "acme: option `columns` is [] but must be of type map",
    )


@pytest.mark.parametrize("value", [True, 1.5, "x", [], {}, "1e400"])
def test_an_int_is_nothing_else(value: object) -> None:
    with pytest.raises(ConfigError, match="must be of type int"):
        resolve_options(MANIFEST, {"timeout": value})


def test_a_required_option_says_where_to_write_it() -> None:
    manifest = replace(MANIFEST, options={"folder": Option("str", "Where the files lie", required=True)})
    with pytest.raises(ConfigError, match=r"option `folder` is not set; .*\{folder: text\}.* \(Where the files lie\)"):
        resolve_options(manifest, {})


def test_a_secret_comes_from_its_variable_and_the_configuration_wins() -> None:
    assert resolve_secrets(MANIFEST, {"ACME_KEY": " from env\n"}, {}) == {"api_key": "from env"}
    assert resolve_secrets(MANIFEST, {"ACME_KEY": "env"}, {"api_key": "file", "extra": "x"}) == {
        "api_key": "file",
        "extra": "x",
    }


def test_a_missing_secret_names_its_variable_and_no_value_is_ever_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_secrets(MANIFEST, {"ACME_KEY": " "}, {"extra": "hush", "apikey": "hush"})
    assert caught.value.faults == (
        "acme: unknown secret `apikey`; write `api_key`",
        "acme: secret `api_key` is not set; set the environment variable ACME_KEY (The key)",
    )


def test_the_operator_overrules_the_manifest_but_never_loosens_its_limits() -> None:
    own = {"enabled": False, "priority": 90, "rate_limits": {"requests_per_minute": 600, "requests_per_second": 1}}
    manifest = overrule(MANIFEST, own)
    assert (manifest.enabled, manifest.priority) == (False, 90)
    assert manifest.rate_limits == (RateWindow(1, 1.0), RateWindow(60, 60.0), RateWindow(600, 60.0))


def test_what_the_operator_may_not_say_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        overrule(MANIFEST, {"priorty": 1, "enabled": "perhaps", "options": {}})
    assert set(caught.value.faults) == {
        "providers.acme: unknown key `priorty`; write `priority`",
        "providers.acme: `enabled` must be true or false, not text `perhaps`; write `enabled: true`",
    }
