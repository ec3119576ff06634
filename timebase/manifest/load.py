"""A folder with config.yaml -> Manifest, or every fault in it at once."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from timebase.errors import ConfigError
from timebase.house import PLUGINS
from timebase.manifest.document import Document, Fault, parse_document
from timebase.manifest.explain import manifest_schema, near, schema_faults, shown
from timebase.manifest.limits import rate_windows
from timebase.manifest.manifest import (
    DATA_TYPES,
    HISTORICAL_DATA,
    REAL_TIME_STREAMING,
    Manifest,
    Option,
    Reach,
    Secret,
)
from timebase.manifest.options import EXAMPLES, WRONG, fault_of, typed, wrong_values
from timebase.manifest.overrule import overrule
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass, Instrument, canonical_symbol, classify
from timebase.model.interval import Interval, parse_interval
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, to_us

FILE = "config.yaml"
MAX_BYTES = 256 * 1024  # a manifest with 2,000 symbols has about 100 KiB
LENGTHS_US = {
    "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US, "mo": 30 * DAY_US, "y": 366 * DAY_US,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BrokenManifest:
    """A folder whose manifest cannot be used, and why: one fault a line, "file:line: what is wrong; write …"."""

    folder: Path
    faults: tuple[str, ...]


def manifest_folders(roots: Iterable[Path]) -> tuple[Path, ...]:
    """The folders that hold a manifest, by root and then by name. Hidden folders and missing roots are passed over."""
    found: list[Path] = []
    for root in roots:
        try:
            entries = sorted(root.absolute().iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [entry for entry in entries if not entry.name.startswith((".", "_")) and _has_manifest(entry)]
    return tuple(dict.fromkeys(found))


def load_manifests(roots: Iterable[Path]) -> tuple[tuple[Manifest, ...], tuple[BrokenManifest, ...]]:
    """Everything in `roots`; of two manifests with one slug the first is good and the second broken."""
    good: dict[str, Manifest] = {}
    broken: list[BrokenManifest] = []
    for folder in manifest_folders(roots):
        try:
            manifest = load_manifest(folder)
        except ConfigError as error:
            broken.append(BrokenManifest(folder, error.faults))
            continue
        if manifest.slug in good:
            broken.append(twice(manifest, good[manifest.slug].folder))
        else:
            good[manifest.slug] = manifest
    return tuple(good.values()), tuple(broken)


def load_folders(
    roots: Iterable[Path], own: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str]
) -> tuple[tuple[Manifest, ...], list[str]]:
    """Everything in `roots` as the operator's configuration `own` (by slug) makes it, and every fault of both.

    A provider of which nothing is configured may lack required options and secrets: it waits, and says for what.
    """
    manifests, broken = load_manifests(roots)
    faults = [fault for one in broken for fault in one.faults]
    slugs = [manifest.slug for manifest in manifests]
    strangers = [slug for slug in own if slug not in slugs]
    faults += [f"providers.{slug}: there is no such provider; write {near(slug, slugs)}" for slug in strangers]
    good: list[Manifest] = []
    for manifest in manifests:
        try:
            good.append(overrule(manifest, own.get(manifest.slug, {})))
        except ConfigError as error:
            faults += error.faults
        else:
            faults += wrong_values(manifest, own.get(manifest.slug, {}), environ)
    return tuple(good), faults


def twice(manifest: Manifest, first: Path) -> BrokenManifest:
    """`manifest` has the slug of the one in `first`."""
    try:
        line = parse_document(_read(manifest.folder / FILE)).line(("slug",))
    except ConfigError:
        line = 1
    said = f"slug `{manifest.slug}` is already taken by {first / FILE}; write another slug"
    return BrokenManifest(manifest.folder, (f"{manifest.folder / FILE}:{line}: {said}",))


def load_manifest(folder: Path) -> Manifest:
    """Raises: ConfigError with every fault, in the order of the lines."""
    folder = folder.absolute()
    path = folder / FILE
    document = parse_document(_read(path))
    faults = list(document.faults)
    if document.value is not None or not faults:
        faults += schema_faults(document)
    if not isinstance(document.value, Mapping):
        raise _refusal(path, faults)
    reader = _Reader(document, folder, frozenset(fault.section for fault in faults))
    manifest = reader.manifest()
    if faults or reader.faults:
        raise _refusal(path, faults + reader.faults)
    return manifest


def _has_manifest(folder: Path) -> bool:
    try:
        return (folder / FILE).is_file() or (folder / "config.yml").is_file()
    except OSError:
        return folder.is_dir()  # which may not be entered: reading it says so


def _refusal(path: Path, faults: Iterable[Fault]) -> ConfigError:
    in_order = sorted(dict.fromkeys(faults), key=lambda fault: fault.line)
    return ConfigError([f"{path}:{fault.line}: {fault.text}" for fault in in_order])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}:1: there is no such file; write the manifest into {FILE}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}:1: cannot be read: {error.strerror}; write it so that the server may"]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: a byte is not UTF-8; write the file as UTF-8"]) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"{path}:1: has more than {MAX_BYTES // 1024} KiB; write fewer symbols or leave them out"])
    if not text.strip():
        raise ConfigError([f"{path}:1: is empty; write at least `name`, `slug`, `version`, `entrypoint`, ..."])
    return text


class _Reader:
    """Builds the Manifest from what the schema has passed; collects what the schema cannot say.

    `refused` are the sections that the schema has not passed: examples stand in for those that there must be, so that
    the faults of all others come to light at the same time.
    """

    def __init__(self, document: Document, folder: Path, refused: frozenset[str]) -> None:
        self.faults: list[Fault] = []
        self._document = document
        self._folder = folder
        self._refused = refused
        schema = manifest_schema()
        stand_ins = {key: schema["properties"][key]["examples"][0] for key in schema["required"]}
        self._at = stand_ins | {key: value for key, value in document.value.items() if key not in refused}

    def manifest(self) -> Manifest:
        at = self._at
        limits = at.get("rate_limits", {})
        entrypoint, code = self._entrypoint()
        asset_classes = frozenset(DATA_TYPES[word] for word in at["data_types"])
        return Manifest(
            slug=at["slug"],
            name=at["name"],
            version=at["version"],
            description=at.get("description", ""),
            entrypoint=entrypoint,
            code=code,
            folder=self._folder,
            capabilities=frozenset(at.get("capabilities", [HISTORICAL_DATA])),
            streams=self._streams(),
            asset_classes=asset_classes,
            intervals=self._intervals(),
            rate_limits=rate_windows(limits),
            identical_window_s=float(limits.get("identical_request_seconds", 0)),
            options={name: self._option(name, spec) for name, spec in at.get("options", {}).items()},
            secrets={name: self._secret(name, spec) for name, spec in at.get("secrets", {}).items()},
            cost=float(at.get("cost", 0)),
            priority=int(at.get("priority", 50)),
            delay_s=float(at.get("delay_seconds", 0)),
            history=self._history(),
            symbols=self._symbols(asset_classes),
            lists_symbols=at.get("lists_symbols", False),
            only_by_name=at.get("only_by_name", False),
            enabled=at.get("enabled", True),
            memory_mb=int(at.get("memory_mb", 512)),
            max_concurrent=int(at.get("max_concurrent", 4)),
        )

    def _fault(self, path: tuple[str | int, ...], text: str) -> None:
        depends_on = {path[0], "data_types"} if path[0] == "symbols" else {path[0]}
        if self._refused.isdisjoint(depends_on):
            self.faults.append(Fault(self._document.line(path), text))

    def _entrypoint(self) -> tuple[str | tuple[str, ...], Path | None]:
        written = self._at["entrypoint"]
        if isinstance(written, list):
            return tuple(word.replace("{folder}", str(self._folder)) for word in written), None
        file = written.rpartition(":")[0]
        places = (self._folder / file, PLUGINS / file)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            looked = f"{self._folder} and {PLUGINS}"
            self._fault(("entrypoint",), f"`{file}` is neither in {looked}; write the file, or its right name")
        return written, found

    def _interval(self, word: str, path: tuple[str | int, ...]) -> Interval | None:
        interval = parse_interval(word)
        if interval is None:
            self._fault(path, f"`{shown(word)}` is no interval; write {near(word, [i.value for i in Interval])}")
        return interval

    def _intervals(self) -> frozenset[Interval]:
        read = (self._interval(word, ("intervals", at)) for at, word in enumerate(self._at["intervals"]))
        return frozenset(interval for interval in read if interval is not None)

    def _streams(self) -> frozenset[FeedKind]:
        if REAL_TIME_STREAMING in self._at.get("capabilities", ()):
            return frozenset(map(FeedKind, self._at.get("streams", [FeedKind.TRADES])))
        if "streams" in self._at and "capabilities" not in self._refused:
            said = f"`streams` needs a capability; write `capabilities: [{HISTORICAL_DATA}, {REAL_TIME_STREAMING}]`"
            self._fault(("streams",), said)
        return frozenset()

    def _history(self) -> dict[Interval, Reach]:
        reaches: dict[Interval, Reach] = {}
        for word, written in self._at.get("history", {}).items():
            path = ("history", word)
            interval = self._interval(word, path)
            reach = _reach(written)
            if reach is None:
                self._fault(path, f"`{written}` is no date; write one like `{word}: 2017-08-17`")
            elif interval is not None:
                reaches[interval] = reach
        return reaches

    def _option(self, name: str, spec: Mapping[str, Any]) -> Option:
        option = Option(
            type=spec["type"],
            description=spec.get("description", ""),
            default=spec.get("default"),
            minimum=spec.get("minimum"),
            maximum=spec.get("maximum"),
            choices=tuple(spec.get("choices", ())),
            required=spec.get("required", "default" not in spec),
        )
        self._check_option(name, option)
        return option

    def _check_option(self, name: str, option: Option) -> None:
        path = ("options", name)
        bounds = [bound for bound in (option.minimum, option.maximum) if bound is not None]
        if bounds and option.type not in {"int", "float"}:
            self._fault(path, f"option `{name}` of type {option.type} has bounds; write `choices`, or `type: float`")
            return
        if bounds != sorted(bounds):
            self._fault(path, f"option `{name}` has a minimum above its maximum; write the smaller as `minimum`")
        for choice in option.choices:
            if typed(option, choice) is WRONG:
                said = f"choice `{shown(choice)}` of option `{name}` is not of type {option.type}"
                self._fault((*path, "choices"), f"{said}; write one like `{EXAMPLES[option.type]}`")
        if option.default is not None:
            self._check_default(name, option)

    def _check_default(self, name: str, option: Option) -> None:
        value = typed(option, option.default)
        problem = f"must be of type {option.type}" if value is WRONG else fault_of(option, value)
        if problem:
            said = f"the default `{shown(option.default)}` of option `{name}` {problem}"
            self._fault(
                ("options", name, "default"), f"{said}; write `default: {EXAMPLES[option.type]}`, or another type"
            )

    def _secret(self, name: str, spec: Mapping[str, Any]) -> Secret:
        own = f"TIMEBASE_SECRET_{self._at['slug']}_{name}".upper().replace("-", "_")
        return Secret(spec.get("description", ""), spec.get("env", own), spec.get("required", True))

    def _symbols(self, asset_classes: frozenset[AssetClass]) -> tuple[Instrument, ...]:
        found: dict[str, Instrument] = {}
        for at, written in enumerate(self._at.get("symbols", ())):
            instrument = _instrument(written if isinstance(written, Mapping) else {"symbol": written})
            if instrument.asset_class not in asset_classes:
                word = next(word for word, kind in DATA_TYPES.items() if kind is instrument.asset_class)
                said = f"`{instrument.symbol}` is of class {instrument.asset_class}, which `data_types` lacks"
                self._fault(("symbols", at), f"{said}; write `{word}` there, or its `asset_class` here")
            if instrument.symbol in found:
                self._fault(("symbols", at), f"`{instrument.symbol}` is written twice; write it once")
            found[instrument.symbol] = instrument
        return tuple(found.values())


def _instrument(spec: Mapping[str, str]) -> Instrument:
    symbol = canonical_symbol(spec["symbol"])
    kind = AssetClass(spec["asset_class"]) if "asset_class" in spec else classify(symbol)
    about = {key: spec.get(key, "") for key in ("name", "currency", "exchange", "timezone")}
    return Instrument(0, symbol, kind, **about)


def _reach(written: str) -> Reach | None:
    length = re.fullmatch(r"(\d+)(m|h|d|w|mo|y)", written)
    if length:
        return Reach(back_us=int(length[1]) * LENGTHS_US[length[2]])
    try:
        return Reach(since_us=to_us(datetime.fromisoformat(written).replace(tzinfo=UTC)))
    except ValueError:
        return None
