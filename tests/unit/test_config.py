from datetime import UTC, datetime
from pathlib import Path

import pytest

from timebase.config import SETTINGS, Settings, load_settings
from timebase.errors import ConfigError
from timebase.model.alias import Alias
from timebase.model.timerange import to_us


def faults(environ: dict[str, str], file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, file)
    return caught.value.faults


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 8080, None)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "timebase.yaml"
    file.write_text("port: 9000\nlog_format: json\n")
    settings = load_settings({"TIMEBASE_PORT": "9001"}, file)
    assert (settings.port, settings.log_format) == (9001, "json")


def test_the_command_line_wins_over_all() -> None:
    assert load_settings({"TIMEBASE_PORT": "9001"}, overrides={"port": "9002"}).port == 9002


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "timebase.yaml"
    file.write_text("prot: 9000\nask_s: soon\n")
    found = faults({"TIMEBASE_PORT": "99999", "TIMEBASE_LOG_FORMAT": "xml"}, file)
    assert len(found) == 4
    assert any("did you mean port?" in fault for fault in found)


def test_listening_beyond_loopback_needs_a_token() -> None:
    (fault,) = faults({"TIMEBASE_HOST": "0.0.0.0"})
    assert "TIMEBASE_TOKEN" in fault
    assert load_settings({"TIMEBASE_HOST": "0.0.0.0", "TIMEBASE_TOKEN": "x" * 32}).token == "x" * 32


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert load_settings({"TIMEBASE_HOST": host}).token is None


def test_the_token_is_not_in_the_repr() -> None:
    assert "hush" not in repr(load_settings({"TIMEBASE_TOKEN": "hush"}))


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "timebase.yaml"
    file.write_text("port: 9000\nhost: [\n")
    (fault,) = faults({}, file)
    assert fault.startswith(f"{file}:")


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    (fault,) = faults({"TIMEBASE_CONFIG": str(tmp_path / "none.yaml")})
    assert "no such file" in fault


def test_several_manifest_directories_are_separated_as_paths_are(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    settings = load_settings({"TIMEBASE_MANIFESTS": f"{tmp_path}/a:{tmp_path}/b"})
    assert settings.manifests == (tmp_path / "a", tmp_path / "b")


def test_a_number_of_days_can_be_never() -> None:
    assert load_settings({"TIMEBASE_COMPRESS_AFTER_DAYS": "never"}).compress_after_days is None


def test_secrets_of_providers_are_not_settings() -> None:
    assert load_settings({"TIMEBASE_SECRET_ACME_KEY": "k"}) == load_settings({})


def test_every_setting_is_described() -> None:
    assert {setting.name for setting in SETTINGS} == set(Settings.__slots__)
    assert all(setting.meaning for setting in SETTINGS)


def test_aliases_say_since_when_a_symbol_means_its_instrument(tmp_path: Path) -> None:
    file = tmp_path / "timebase.yaml"
    dated = ("{symbol: meta, from: 2022-06-09, was: FB, provider: acme}", "{symbol: X, from: '2020-01-02'}")
    file.write_text(f"aliases: [{', '.join(dated)}]")
    june, january = (to_us(datetime(*day, tzinfo=UTC)) for day in ((2022, 6, 9), (2020, 1, 2)))
    assert load_settings({}, file).aliases.known == (Alias("META", june, "FB", "acme"), Alias("X", january))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{symbol: META}", "from"),
        ("{symbol: META, from: soon}", "2022-06-09, not soon"),
        ("{symbol: META, from: 2022-06-09, became: META}", "became"),
        ("{symbol: META, from: 2022-06-09, was: FB}\n- {symbol: META, from: 2022-06-09}", "2 times on one day"),
    ],
)
def test_a_strange_alias_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "timebase.yaml"
    file.write_text(f"aliases:\n- {text}\n")
    (fault,) = faults({}, file)
    assert says in fault


def test_routing_rules_name_their_providers(tmp_path: Path) -> None:
    file = tmp_path / "timebase.yaml"
    file.write_text("routing:\n- {asset_class: crypto}\n")
    (fault,) = faults({}, file)
    assert "providers" in fault


def test_what_is_installed_lies_in_the_data_directory_unless_manifests_are_configured(tmp_path: Path) -> None:
    assert load_settings({"TIMEBASE_DATA_DIR": str(tmp_path)}).manifests[-1] == tmp_path / "manifests"
    configured = {"TIMEBASE_DATA_DIR": str(tmp_path), "TIMEBASE_MANIFESTS": str(tmp_path)}
    assert load_settings(configured).manifests == (tmp_path,)


def test_every_key_that_is_written_twice_is_named_with_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "timebase.yaml"
    file.write_text(
        "port: 9000\nproviders:\n  demo: {enabled: true, enabled: false}\n  files:\n    priority: 1\n"
        "  demo:\n    priority: 2\nport: 9001\n"
    )
    assert list(faults({}, file)) == [
        f"{file}:3: `enabled` is written twice, first on line 3; write it once",
        f"{file}:6: `demo` is written twice, first on line 3; write it once",
        f"{file}:8: `port` is written twice, first on line 1; write it once",
    ]
