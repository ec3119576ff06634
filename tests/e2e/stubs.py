"""The tests' side of the stub provider: its manifest, its script, and the questions that it saw."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from timebase.model.bars import Bars
from timebase.model.interval import Interval
from timebase.model.timerange import Ranges, TimeRange

CODE = Path(__file__).parent / "stub" / "provider.py"


@dataclass(frozen=True, slots=True)
class Seen:
    """One question as the provider saw it. Units: µs UTC; `at` epoch seconds."""

    symbol: str
    interval: str
    range: TimeRange
    at: float
    pid: int


class Stub:
    """One stub provider: its manifest below `manifests`, its script and its log below `folder`."""

    def __init__(self, slug: str, manifests: Path, folder: Path, **manifest: Any) -> None:
        self.slug = slug
        self.home = manifests / slug
        self.folder = folder / slug
        self.folder.mkdir(parents=True, exist_ok=True)
        self._script: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._write_script()
        self._manifest = manifest
        self.install()

    def install(self) -> None:
        """Drop the plugin's folder where the server finds it: whole, as a user would move it there."""
        content = {
            "name": f"Stub {self.slug}",
            "slug": self.slug,
            "version": "1.0.0",
            "entrypoint": "provider.py:Stub",
            "data_types": ["crypto", "stocks"],
            "intervals": ["1m", "1h", "1d"],
            "max_concurrent": 16,
            "options": {"folder": {"type": "str", "default": str(self.folder)}},
            **self._manifest,
        }
        unfinished = self.home.parent / f".{self.slug}"
        unfinished.mkdir(parents=True)
        shutil.copy(CODE, unfinished / "provider.py")
        (unfinished / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        unfinished.rename(self.home)

    def remove(self) -> None:
        shutil.rmtree(self.home)

    # --- what it shall do

    def script(self, symbol: str, *turns: Mapping[str, Any]) -> None:
        """The n-th question about `symbol` takes the n-th turn; the last one stays."""
        self._script[symbol] = turns
        self._write_script()

    def open_gate(self, name: str) -> None:
        (self.folder / name).touch()

    def _write_script(self) -> None:
        path = self.folder / "script.json"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(self._script))
        unfinished.rename(path)

    # --- what it saw

    def seen(self, symbol: str | None = None) -> list[Seen]:
        try:
            text = (self.folder / "questions.jsonl").read_text()
        except FileNotFoundError:
            return []
        # A process that is killed may leave half a line.
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [
            Seen(each["symbol"], each["interval"], TimeRange(each["start"], each["end"]), each["at"], each["pid"])
            for each in lines
            if symbol in (None, each["symbol"])
        ]

    def ranges(self, symbol: str) -> list[TimeRange]:
        return [each.range for each in self.seen(symbol)]


def true_bars(interval: Interval, within: TimeRange, holidays: Ranges | None = None) -> Bars:
    """What the stub gives for a range; see stub/provider.py."""
    step = interval.us
    time = np.arange(-(-within.start_us // step) * step, within.end_us, step, dtype=np.int64)
    for holiday in (holidays or Ranges()).parts:
        time = time[(time < holiday.start_us) | (time >= holiday.end_us)]
    at = (time // step) % 1_000
    open_ = 100 + at / 10
    return Bars.of(time, open_, open_ + 1, open_ - 1, open_ + 0.5, 1_000.0 + at)
