"""The tests' side of the streaming stub provider: its manifest, its tape, its truth, and what was wanted of it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

CODE = Path(__file__).parent / "live_stub" / "provider.py"


Row: TypeAlias = tuple[int, float, float, int]
"""Time, price, size and id of a trade."""


class LiveStub:
    """One streaming provider below `manifests`; its files below `folder`."""

    def __init__(self, slug: str, manifests: Path, folder: Path, **manifest: Any) -> None:
        self.slug = slug
        self.folder = folder / slug
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tell_truth({})
        content = {
            "name": f"Live stub {slug}",
            "slug": slug,
            "version": "1.0.0",
            "entrypoint": "provider.py:LiveStub",
            "capabilities": ["historical_data", "real_time_streaming"],
            "streams": ["trades", "quotes"],
            "data_types": ["crypto", "stocks"],
            "intervals": ["1m"],
            "options": {"folder": {"type": "str", "default": str(self.folder)}},
            **manifest,
        }
        home = manifests / slug
        home.mkdir(parents=True)
        shutil.copy(CODE, home / "provider.py")
        (home / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def tell_truth(self, bars: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """What its history says, whole or not at all."""
        unfinished = self.folder / "truth.tmp"
        unfinished.write_text(json.dumps(bars))
        unfinished.rename(self.folder / "truth.json")

    def play(self, *lines: Mapping[str, Any]) -> None:
        """Let it stream these, now."""
        with (self.folder / "tape.jsonl").open("a") as tape:
            tape.write("".join(json.dumps(line) + "\n" for line in lines))

    def trade(self, symbol: str, *rows: Row) -> None:
        time, price, size, ids = (list(column) for column in zip(*rows, strict=True))
        self.play({"trades": symbol, "time": time, "price": price, "size": size, "id": ids})

    def go_wrong(self, **fault: Any) -> None:
        """From its next stream on: `raises`, a message, or `dies`; nothing: all is well again."""
        (self.folder / "fault.json").write_text(json.dumps(fault))

    def connections(self) -> int:
        """How many streams it was asked for."""
        path = self.folder / "connections"
        return len(path.read_text()) if path.exists() else 0

    def wanted(self) -> list[list[list[str]]]:
        """Each set of feeds that was wanted of it, in turn; an empty one when a stream ended."""
        path = self.folder / "subscriptions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def questions(self) -> list[list[Any]]:
        """[symbol, interval, start_us, end_us] of each question about history."""
        path = self.folder / "questions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
