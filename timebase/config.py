"""Settings: `TIMEBASE_*` environment over `timebase.yaml` over defaults; every fault in one message.

`SETTINGS` is the one list; the documentation is tested against it.
"""

import ipaddress
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

import yaml

from timebase import house
from timebase.errors import ConfigError
from timebase.model.alias import Alias, Aliases
from timebase.model.instrument import canonical_symbol
from timebase.model.timerange import to_us

DEFAULT_FILE = "timebase.yaml"
PREFIX = "TIMEBASE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Units: `_s` seconds, `_mb` MiB, `_days` days; None means without limit unless said otherwise."""

    host: str = "127.0.0.1"
    port: int = 8080
    data_dir: Path = Path("timebase-data")
    database_url: str | None = None  # None: the embedded PostgreSQL in data_dir/postgres
    manifests: tuple[Path, ...] = ()
    log_format: str = "text"
    log_level: str = "INFO"
    token: str | None = field(default=None, repr=False)
    ask_s: float = 60.0
    patience_s: float = 20.0
    refresh_s: float = 60.0
    cache_mb: int = 96
    spool_mb: int = 1024
    linger_s: float = 30.0
    lateness_s: float = 0.5
    fill_quiet: bool = False
    breaker_failures: int = 5
    breaker_open_s: float = 60.0
    breaker_successes: int = 2
    max_retries: int = 2
    max_budget_wait_s: float = 30.0
    retention_intraday_days: int | None = None
    retention_daily_days: int | None = None
    retention_ticks_days: int | None = 30
    compress_after_days: int | None = 7
    routing: tuple[Mapping[str, object], ...] = ()
    aliases: Aliases = field(default_factory=Aliases)
    providers: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_local(self) -> bool:
        return self.host == "localhost" or _is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the configuration: its name in the file; the variable is `TIMEBASE_` and the name in capitals."""

    name: str
    parse: Callable[[object], object]
    meaning: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


def load_settings(
    environ: Mapping[str, str] = os.environ, file: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Settings from the file (TIMEBASE_CONFIG, else ./timebase.yaml if there is one), the environment and `overrides`.

    Raises: ConfigError with every fault found.
    """
    settings, faults = read_settings(environ, file, overrides)
    if faults:
        raise ConfigError(faults)
    return settings


def read_settings(
    environ: Mapping[str, str] = os.environ, file: Path | None = None, overrides: Mapping[str, object] | None = None
) -> tuple[Settings, tuple[str, ...]]:
    """The settings and every fault of them; where there is one, the default stands in."""
    faults: list[str] = []
    path = file or Path(environ.get("TIMEBASE_CONFIG", DEFAULT_FILE))
    is_asked_for = file is not None or "TIMEBASE_CONFIG" in environ
    given = {name: (value, str(path)) for name, value in _read(path, is_asked_for, faults).items()}
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and not variable.startswith(_NOT_SETTINGS) and text:
            given[variable.removeprefix(PREFIX).lower()] = (text, variable)
    for name, value in (overrides or {}).items():
        given[name] = (value, "the command line")
    values = _parse_all(given, faults)
    settings = Settings(**values)  # type: ignore[arg-type]
    if "manifests" not in values:
        settings = replace(settings, manifests=default_manifests(settings.data_dir))
    if not settings.is_local and not settings.token:
        faults.append(
            f"host: {settings.host} is reachable from other machines, and no token protects it; set TIMEBASE_TOKEN to "
            "a long random text (clients send it as `Authorization: Bearer …`), or listen on 127.0.0.1"
        )
    return settings, tuple(faults)


def default_manifests(data_dir: Path) -> tuple[Path, ...]:
    """The bundled manifests, ./manifests when that is another folder, and what is installed while the server runs."""
    own, installed = Path("manifests").absolute(), data_dir / "manifests"
    return (house.MANIFESTS, *([own] if own != house.MANIFESTS and own.is_dir() else []), installed)


class _Loader(yaml.SafeLoader):
    """YAML that notes keys which are written twice, where others let the last one win without a word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                said = f"`{key.value}` is written twice, first on line {lines[key.value]}; write it once"
                self.twice.append((line, said))
            lines.setdefault(key.value, line)
        return super().construct_mapping(node, deep)


def _read(path: Path, is_asked_for: bool, faults: list[str]) -> Mapping[str, object]:
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        content = loader.get_single_data()
    except FileNotFoundError:
        if is_asked_for:
            faults.append(f"{path}: there is no such file; TIMEBASE_CONFIG or --config names it")
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        faults.append(f"{path}: cannot be read: {exc}")
        return {}
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        faults.append(f"{path}{line}: not valid YAML: {getattr(exc, 'problem', exc)}")
        return {}
    faults += [f"{path}:{line}: {said}" for line, said in sorted(loader.twice)]
    if content is None:
        return {}
    if not isinstance(content, dict):
        faults.append(f"{path}: write `name: value` lines, as in `port: 8080`")
        return {}
    return {str(name): value for name, value in content.items()}


def _parse_all(given: Mapping[str, tuple[object, str]], faults: list[str]) -> dict[str, object]:
    known = {setting.name: setting for setting in SETTINGS}
    values: dict[str, object] = {}
    for name, (value, where) in given.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}"
            faults.append(f"{where}: there is no setting {name}{hint}")
            continue
        try:
            values[name] = known[name].parse(value)
        except ValueError as exc:
            faults.append(f"{where}: {name}: {exc}")
    return values


def _text(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(f"write a text, not {value!r}")
    return str(value)


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        try:
            number = int(str(value))
        except ValueError:
            raise ValueError(f"write a whole number from {low} to {high}, not {value!r}") from None
        if not low <= number <= high:
            raise ValueError(f"write a whole number from {low} to {high}, not {number}")
        return number

    return parse


def _days(value: object) -> int | None:
    """Days, or `never`."""
    return None if value is None or str(value).lower() == "never" else _whole(1, 100_000)(value)


def _seconds(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError(f"write a number of seconds, not {value!r}") from None
    if not 0 <= number < 1e9:
        raise ValueError(f"write seconds from 0 up, not {value!r}")
    return number


def _yes_or_no(value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in words:
        raise ValueError(f"write true or false, not {value!r}")
    return words[str(value).lower()]


def _one_of(*allowed: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        for choice in allowed:
            if str(value).lower() == choice.lower():
                return choice
        raise ValueError(f"write one of {', '.join(allowed)}, not {value!r}")

    return parse


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser()


def _paths(value: object) -> tuple[Path, ...]:
    """A list, or one text with the platform's path separator."""
    parts = value if isinstance(value, list) else _text(value).split(os.pathsep)
    paths = tuple(_path(part) for part in parts if part)
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a directory")
    return paths


def _database_url(value: object) -> str:
    url = _text(value)
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("write postgresql://user:password@host:port/database")
    return url


def _routing(value: object) -> tuple[Mapping[str, object], ...]:
    """Shape: a list of {asset_class?, interval?, symbol?, providers: [slug, …]}."""
    if not isinstance(value, list):
        raise ValueError("in the file, write a list of rules, as in `- {asset_class: crypto, providers: [binance]}`")
    for rule in value:
        if not isinstance(rule, dict) or not isinstance(rule.get("providers"), list):
            raise ValueError(f"a rule needs `providers: [slug, …]`: {rule!r}")
        unknown = ", ".join(sorted(set(rule) - {"asset_class", "interval", "symbol", "providers"}))
        if unknown:
            raise ValueError(f"a rule has asset_class, interval, symbol and providers, not {unknown}")
    return tuple(MappingProxyType(rule) for rule in value)


def _aliases(value: object) -> Aliases:
    """Shape: a list of {symbol, from, was?, provider?}."""
    if not isinstance(value, list):
        raise ValueError("in the file, write a list, as in `- {symbol: META, from: 2022-06-09, was: FB}`")
    aliases = [_alias(each) for each in value]
    keys = Counter((each.symbol, each.provider, each.until_us) for each in aliases)
    for (symbol, _, _), times in keys.items():
        if times > 1:
            raise ValueError(f"{symbol} changes its name {times} times on one day; keep one of them")
    return Aliases.of(aliases)


def _alias(given: object) -> Alias:
    if not isinstance(given, dict) or not {"symbol", "from"} <= set(given) <= {"symbol", "from", "was", "provider"}:
        raise ValueError(f"an alias has symbol, from and, where they apply, was and provider: {given!r}")
    since, was, provider = _day(given["from"]), given.get("was"), given.get("provider")
    return Alias(
        symbol=canonical_symbol(_text(given["symbol"])),
        until_us=to_us(datetime.combine(since, time(tzinfo=UTC))),
        was=None if was is None else canonical_symbol(_text(was)),
        provider=None if provider is None else _text(provider),
    )


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"from: write a day as in 2022-06-09, not {value}") from None


def _providers(value: object) -> Mapping[str, Mapping[str, object]]:
    """Shape: {slug: {enabled?, priority?, options?: {…}, secrets?: {…}, rate_limits?}}."""
    if not isinstance(value, dict) or not all(isinstance(own, dict) for own in value.values()):
        raise ValueError("write `slug: {options: {…}}` (only in the file)")
    return MappingProxyType({str(slug): MappingProxyType(own) for slug, own in value.items()})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


SETTINGS = (
    Setting("host", _text, "address to listen on; beyond loopback a token is required"),
    Setting("port", _whole(0, 65535), "port to listen on; 0 takes a free one"),
    Setting("data_dir", _path, "where the embedded database, the spool and the providers' caches lie"),
    Setting("database_url", _database_url, "PostgreSQL or TimescaleDB to use; unset: the embedded PostgreSQL"),
    Setting("manifests", _paths, "directories of provider folders, separated by `:` (a list in the file)"),
    Setting("log_format", _one_of("text", "json"), "how log lines look"),
    Setting("log_level", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "the least severe level that is logged"),
    Setting("token", _text, "bearer token that every request must carry (health excepted)"),
    Setting("ask_s", _seconds, "how long one question may take before it is answered with 504"),
    Setting("patience_s", _seconds, "how long a provider may be silent over a question before the next one is asked"),
    Setting("refresh_s", _seconds, "how old the newest, still changing bars may be before they are asked for again"),
    Setting("cache_mb", _whole(0, 65536), "memory for cached bars and rendered replies"),
    Setting("spool_mb", _whole(1, 1048576), "disk for batches that wait while the database is away"),
    Setting("linger_s", _seconds, "how long a live feed outlives its last follower"),
    Setting(
        "lateness_s", _seconds, "how late a trade may come and still be in the bar that closes; a later one revises it"
    ),
    Setting("fill_quiet", _yes_or_no, "whether a period without trades is a flat bar without volume, or none"),
    Setting("breaker_failures", _whole(1, 1000), "failures in a row that open a provider's circuit"),
    Setting("breaker_open_s", _seconds, "how long an open circuit rests before it is tried again"),
    Setting("breaker_successes", _whole(1, 1000), "successes in a row that close a half-open circuit"),
    Setting("max_retries", _whole(0, 20), "how often one provider is asked again where that can help"),
    Setting("max_budget_wait_s", _seconds, "how long a question may wait for a provider's rate budget"),
    Setting("retention_intraday_days", _days, "intraday bars older than this are dropped; `never` keeps them"),
    Setting("retention_daily_days", _days, "daily and longer bars older than this are dropped; `never` keeps them"),
    Setting(
        "retention_ticks_days", _days, "recorded trades and quotes older than this are dropped; `never` keeps them"
    ),
    Setting("compress_after_days", _days, "with TimescaleDB: chunks older than this are compressed; `never` does not"),
    Setting("routing", _routing, "rules that name the providers to prefer, first match wins (file only)"),
    Setting("aliases", _aliases, "since when a symbol means its instrument, and what it went by before (file only)"),
    Setting("providers", _providers, "per provider: enabled, priority, options, secrets (file only)"),
)
# Variables of ours that are not settings: secrets of providers, the config file itself, the tests' database, the link.
_NOT_SETTINGS = ("TIMEBASE_SECRET_", "TIMEBASE_CONFIG", "TIMEBASE_TEST_", "TIMEBASE_LINK", "TIMEBASE_SERVER")

assert {setting.name for setting in SETTINGS} == {f.name for f in fields(Settings)}  # one list, one class
