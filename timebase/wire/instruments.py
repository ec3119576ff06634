"""Instruments and corporate actions: few, so they travel as maps, not as columns."""

from collections.abc import Mapping
from dataclasses import asdict

from timebase.errors import Malformed
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.wire.envelope import number, text

ACTION_KINDS = ("split", "dividend", "spinoff")


def instrument_row(instrument: Instrument) -> dict[str, object]:
    """Without its id, which is the store's."""
    row = asdict(instrument)
    del row["id"]
    return row | {"asset_class": instrument.asset_class.value}


def parse_instrument(row: Mapping[str, object]) -> Instrument:
    """Raises: Malformed."""
    asset_class = text(row, "asset_class")
    if asset_class not in {kind.value for kind in AssetClass}:
        raise Malformed(f"asset_class: one of {', '.join(AssetClass)} wanted, not {asset_class!r:.40}")
    words = {name: text(row, name, "") for name in ("name", "currency", "exchange", "timezone")}
    return Instrument(0, text(row, "symbol"), AssetClass(asset_class), **words)


def action_row(action: CorporateAction) -> dict[str, object]:
    return {
        "ex_date": action.ex_date_us, "kind": action.kind, "value": action.value, "currency": action.currency,
    }  # fmt: skip


def parse_action(row: Mapping[str, object]) -> CorporateAction:
    """Raises: Malformed."""
    kind = text(row, "kind")
    if kind not in ACTION_KINDS:
        raise Malformed(f"kind: one of {', '.join(ACTION_KINDS)} wanted, not {kind!r:.40}")
    ex_date = row.get("ex_date")
    if not isinstance(ex_date, int) or isinstance(ex_date, bool):
        raise Malformed(f"ex_date: whole µs wanted, not {ex_date!r:.40}")
    return CorporateAction(ex_date, kind, number(row, "value"), text(row, "currency", ""))
