"""config.yaml -> Manifest, or every fault with its line and what to write instead."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timebase.errors import ConfigError
from timebase.house import SCHEMA
from timebase.manifest.load import load_manifest, load_manifests
from timebase.manifest.manifest import RateWindow
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US

GOOD = """\
name: Yahoo Finance Provider
slug: yahoo-finance
version: 1.10
entrypoint: provider.py:Yahoo
data_types: [stocks, etfs, crypto]
intervals: [1m, 5m, 15m, 1h, 1d, 1wk, 1mo]
rate_limits: {requests_per_minute: 60, requests_per_day: 2000}
options: {timeout: {type: int, description: "Request timeout in seconds", default: 30}}
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text, "utf-8")
    (folder / "provider.py").touch()
    return folder


def faults_of(folder: Path, text: str) -> list[str]:
    """Without the path, that is as `line: text`."""
    with pytest.raises(ConfigError) as caught:
        load_manifest(write(folder, text))
    prefix = f"{folder / 'config.yaml'}:"
    assert all(fault.startswith(prefix) for fault in caught.value.faults)
    return [fault.removeprefix(prefix) for fault in caught.value.faults]


def test_the_example_of_the_manual_loads(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path, GOOD))

    assert manifest.name == "Yahoo Finance Provider"
    assert manifest.version == "1.10", "a version is read as it is written, not as a number"
    assert manifest.intervals == set(Interval) - {Interval.M30, Interval.H4}
    assert manifest.rate_limits == (RateWindow(60, 60.0), RateWindow(2000, 86400.0))
    assert (manifest.options["timeout"].default, manifest.options["timeout"].required) == (30, False)
    assert manifest.capabilities == {"historical_data"}
    assert manifest.code == tmp_path / "provider.py"


def test_everything_that_may_be_written_is_read(tmp_path: Path) -> None:
    manifest = load_manifest(
        write(
            tmp_path,
            """\
name: Everything
slug: everything
version: "2"
description: All keys at once
entrypoint: [node, "{folder}/provider.js"]
capabilities: [historical_data, real_time_streaming, backfill]
streams: [bars, quotes]
data_types: [stocks, forex]
intervals: [60m, daily, 1M]
rate_limits:
  requests_per_second: 5
  requests_per_hour: 500
  windows: [{requests: 60, seconds: 600}]
  identical_request_seconds: 15
secrets: {api_key: {description: The key, env: EVERYTHING_KEY}, extra: {required: false}}
cost: 0.5
priority: 70
delay_seconds: 900
history: {60m: 730d, 1d: 1999-12-31}
symbols: [AAPL, eur/usd, {symbol: SPY, asset_class: stock, name: An ETF, currency: USD}]
only_by_name: true
enabled: false
memory_mb: 64
max_concurrent: 1
""",
        )
    )

    assert manifest.entrypoint == ("node", f"{tmp_path}/provider.js")
    assert manifest.streams == {FeedKind.BARS, FeedKind.QUOTES}
    assert manifest.intervals == {Interval.H1, Interval.D1, Interval.MO1}
    assert manifest.rate_limits == (RateWindow(5, 1.0), RateWindow(60, 600.0), RateWindow(500, 3600.0))
    assert manifest.identical_window_s == 15
    assert manifest.secrets["api_key"].env == "EVERYTHING_KEY"
    assert manifest.secrets["extra"].env == "TIMEBASE_SECRET_EVERYTHING_EXTRA"
    assert manifest.earliest_us(Interval.H1, 800 * DAY_US) == 70 * DAY_US
    assert manifest.earliest_us(Interval.D1, 0) == 946598400 * 1_000_000
    assert manifest.earliest_us(Interval.MO1, 0) is None
    assert [(i.symbol, i.asset_class) for i in manifest.symbols] == [
        ("AAPL", AssetClass.STOCK),
        ("EUR-USD", AssetClass.FOREX),
        ("SPY", AssetClass.STOCK),
    ]
    assert (manifest.enabled, manifest.memory_mb, manifest.max_concurrent) == (False, 64, 1)
    assert manifest.only_by_name


def test_who_streams_streams_trades_unless_it_says_more_and_nobody_else_does(tmp_path: Path) -> None:
    assert load_manifest(write(tmp_path, GOOD)).streams == frozenset()
    streaming = GOOD + "capabilities: [historical_data, real_time_streaming]\n"
    assert load_manifest(write(tmp_path, streaming)).streams == {FeedKind.TRADES}
    assert load_manifest(write(tmp_path, streaming + "streams: [quotes]\n")).streams == {FeedKind.QUOTES}


def test_what_is_wrong_with_streams_is_told(tmp_path: Path) -> None:
    assert faults_of(tmp_path, GOOD + "streams: [trades]\n") == [
        "9: `streams` needs a capability; write `capabilities: [historical_data, real_time_streaming]`"
    ]
    streaming = GOOD + "capabilities: [real_time_streaming]\n"
    assert faults_of(tmp_path, streaming + "streams: [trade]\n") == [
        "10: `streams[0]` cannot be `trade`; write `trades`"
    ]


def test_all_faults_of_a_file_come_at_once_in_the_order_of_its_lines(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path,
        """\
slug: Yahoo_finance
version: 1
entrypoint: provider.py:Yahoo
data_types: [stock]
interval: [1m]
requests_per_minute: 60
rate_limits: {requests_per_minut: 60, requests_per_day: 0}
priority: high
options:
  Timeout: {type: integer}
symbols: [5]
""",
    )

    assert faults == [
        "1: `name` is missing; write `name: Yahoo Finance Provider`",
        "1: `intervals` is missing; write `intervals: [1m, 1h, 1d]`",
        "1: `slug` cannot be `Yahoo_finance`; write `slug: yahoo-finance`",
        "4: `data_types[0]` cannot be `stock`; write `stocks`",
        "5: unknown key `interval`; write `intervals`",
        "6: unknown key `requests_per_minute`; write it under `rate_limits:`",
        "7: unknown key `requests_per_minut` in `rate_limits`; write `requests_per_minute`",
        "7: `rate_limits.requests_per_day` is 0 but must be at least 1; write `requests_per_day: 2000`",
        "8: `priority` must be a whole number, not text `high`; write `priority: 50`",
        "10: `options.Timeout` cannot be `Timeout`; write a name of lower-case letters, digits and underscores that "
        "begins with a letter",
        "10: `options.Timeout.type` cannot be `integer`; write `int`",
        "11: `symbols[0]` must be text or a map of keys and values, not the number `5`; write `- AAPL`",
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("[1m, 5m,", "[1m, 5x,"), "6: `5x` is no interval; write "),
        (("provider.py:Yahoo", "missing.py:Yahoo"), "4: `missing.py` is neither in "),
        (("default: 30", "default: soon"), "8: the default `soon` of option `timeout` must be of type int; write "),
        (("default: 30", "default: 30, maximum: 9"), "8: the default `30` of option `timeout` must be at most 9; "),
        (("default: 30", "minimum: 9, maximum: 3"), "8: option `timeout` has a minimum above its maximum; write "),
        (("default: 30", "choices: [a]"), "8: choice `a` of option `timeout` is not of type int; write one like `30`"),
        (("type: int", "type: str, minimum: 3"), "8: option `timeout` of type str has bounds; write `choices`, or "),
        (("rate_limits", "symbols: [EUR-USD]\nrate_limits"), "7: `EUR-USD` is of class forex, which `data_types` "),
        (("rate_limits", "symbols: [A, a]\nrate_limits"), "7: `A` is written twice; write it once"),
        (("rate_limits", "history: {1d: 2017-02-31}\nrate_limits"), "7: `2017-02-31` is no date; write one like "),
        (("rate_limits", "history: {1d: 7}\nrate_limits"), "7: `history.1d` must be text, not the number `7`; write "),
        (("rate_limits", "cost: .nan\nrate_limits"), "7: `cost` is .nan; write a number"),
        (("rate_limits", "slug: other\nrate_limits"), "7: `slug` is written twice, first on line 2; write it once"),
        (("rate_limits", "capabilities: []\nrate_limits"), "7: `capabilities` is empty; write "),
        (("rate_limits", "\trate_limits"), "7: this is not YAML: "),
        (
            ("1mo]", "1mo"),
            "6: this is not YAML: while parsing a flow sequence expected ',' or ']', but got ':'; write the missing",
        ),
        (('in seconds"', "in seconds"), "8: this is not YAML: while scanning a quoted scalar found unexpected end"),
        (("Yahoo Finance Provider", "a: b"), "1: this is not YAML: mapping values are not allowed here; write quotes"),
        (("Yahoo Finance Provider", "&a [*a, *a]"), "1: this is not YAML: aliases (*name) are not understood here"),
        (("rate_limits", "cost: !!python/name:os.x ''\nrate_limits"), "7: this is not YAML: could not determine a "),
        (("Yahoo Finance Provider", "[" * 5000), "1: this cannot be read: "),
    ],
)
def test_a_fault_names_its_line_and_what_to_write(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    assert [found[: len(fault)] for found in faults_of(tmp_path, GOOD.replace(*change, 1))] == [fault]


@pytest.mark.parametrize("text", ["", "   \n", "# nothing\n", "just text", "- a\n- b\n", "42", "{"])
def test_what_is_no_map_is_refused_with_a_hint(tmp_path: Path, text: str) -> None:
    assert "; write " in faults_of(tmp_path, text)[0]


def test_bytes_that_are_not_text_are_refused_with_their_line(tmp_path: Path) -> None:
    folder = write(tmp_path, "")
    (folder / "config.yaml").write_bytes(b"name: a\nslug: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2: a byte is not UTF-8; write the file as UTF-8"):
        load_manifest(folder)


def test_what_the_schema_cannot_say_comes_together_with_what_it_can(tmp_path: Path) -> None:
    text = (
        GOOD.replace("etfs", "etf").replace("1m, 5m", "1m, 5x").replace("provider.py", "missing.py")
        + "symbols: [EUR-USD]\n"
    )
    faults = faults_of(tmp_path, text)
    assert [fault.partition(";")[0].partition(" in ")[0] for fault in faults] == [
        "4: `missing.py` is neither",
        "5: `data_types[1]` cannot be `etf`",
        "6: `5x` is no interval",
    ]


def test_a_folder_without_manifest_is_a_fault_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:1: there is no such file; write the manifest into "):
        load_manifest(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    assert "has more than 256 KiB" in faults_of(tmp_path, GOOD + "#" * 300_000)[0]


def test_of_two_manifests_with_one_slug_the_second_is_broken(tmp_path: Path) -> None:
    first = write(tmp_path / "a", GOOD)
    second = write(tmp_path / "b", GOOD)
    good, broken = load_manifests([tmp_path])

    assert [manifest.folder for manifest in good] == [first]
    assert [b.folder for b in broken] == [second]
    assert broken[0].faults == (
        f"{second}/config.yaml:2: slug `yahoo-finance` is already taken by {first}/config.yaml; write another slug",
    )


def test_missing_roots_files_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / ".git", GOOD)
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").touch()
    assert load_manifests([tmp_path, tmp_path / "nowhere", tmp_path / "README.md"]) == ((), ())


def test_the_schema_is_one_and_each_key_of_it_has_an_example_that_it_accepts() -> None:
    schema = json.loads((SCHEMA / "manifest.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, part in schema["properties"].items():
        assert part["description"], name
        for example in part["examples"]:
            jsonschema.Draft202012Validator(part).validate(example)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="{}[]:&*!|>-#'\"\t\n a1%@`"))
def test_no_text_makes_the_reader_fall_over(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, "")
    (folder / "config.yaml").write_text(text, "utf-8", errors="replace")
    with pytest.raises(ConfigError):
        load_manifest(folder)


KEYS = list(json.loads((SCHEMA / "manifest.schema.json").read_text("utf-8"))["properties"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_no_value_of_any_key_makes_the_reader_fall_over(tmp_path: Path, key: str, value: object) -> None:
    lines = [line for line in GOOD.splitlines() if not line.startswith(f"{key}:")]
    write(tmp_path / "one", "\n".join([*lines, f"{json.dumps(key)}: {json.dumps(value)}"]))
    _, broken = load_manifests([tmp_path])
    assert all("; write " in fault for one in broken for fault in one.faults)
