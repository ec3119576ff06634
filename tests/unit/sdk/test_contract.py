"""Each check of the contract finds the provider that breaks it, and nothing else does."""

from collections.abc import AsyncIterator, Iterator
from math import nan

import pytest

from timebase.model.timerange import DAY_US, MINUTE_US
from timebase.sdk import (
    AssetClass,
    AuthFailed,
    Bars,
    CorporateAction,
    HistoryRequest,
    Instrument,
    Provider,
    SymbolNotFound,
)
from timebase.sdk.contract import check

REQUEST = HistoryRequest.of("GOOD", "1d", "2024-01-01", "2024-01-31")
Rows = list[tuple[int, float, float, float, float, float]]


class Good(Provider):
    def history(self, request: HistoryRequest) -> Iterator[Bars | CorporateAction]:
        if request.symbol != "GOOD":
            raise SymbolNotFound(request.symbol)
        first = -(-request.start_us // DAY_US) * DAY_US
        rows = [(at, 2.0, 3.0, 1.0, 2.0, 5.0) for at in range(first, request.end_us, DAY_US)]
        yield from self.pages(rows, request)
        yield CorporateAction(0, "split", 2.0)

    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows(rows[:10])
        yield Bars.from_rows(rows[10:])

    def symbols(self, query: str, limit: int) -> list[Instrument]:
        return [Instrument(0, "GOOD", AssetClass.STOCK)]


class NoBars(Good):
    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield from ()


class NaN(Good):
    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows((at, 2.0, 3.0, 1.0, nan, 5.0) for at, *_ in rows)


class HighBelowClose(Good):
    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows((at, 2.0, 3.0, 1.0, 3.5, 5.0) for at, *_ in rows)


class NewestPageFirst(Good):
    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows(rows[10:])
        yield Bars.from_rows(rows[:10])


class Generous(Good):
    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows([*rows, (rows[-1][0] + DAY_US, 2.0, 3.0, 1.0, 2.0, 5.0)])


class ClosingStamps(Good):
    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows((at + 60 * MINUTE_US, *numbers) for at, *numbers in rows)


class Fickle(Good):
    asked = 0.0

    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        if (request.start_us, request.end_us) == (REQUEST.start_us, REQUEST.end_us):
            self.asked += 1.0
        yield Bars.from_rows((at, 2.0, 3.0, 1.0, 2.0, self.asked) for at, *_ in rows)


class RandomWalk(Good):
    """The price depends on where the question starts."""

    def pages(self, rows: Rows, request: HistoryRequest) -> Iterator[Bars]:
        yield Bars.from_rows((at, 2.0, 9.0, 1.0, 2.0 + n / 10, 5.0) for n, (at, *_) in enumerate(rows))


class OddAction(Good):
    def history(self, request: HistoryRequest) -> Iterator[Bars | CorporateAction]:
        yield from super().history(request)
        yield CorporateAction(DAY_US // 2, "dividend", 1.0)


class Inventive(Good):
    def history(self, request: HistoryRequest) -> Iterator[Bars | CorporateAction]:
        yield Bars.from_rows([(REQUEST.start_us, 2.0, 3.0, 1.0, 2.0, 5.0)])


class SilentAboutUnknown(Good):
    def history(self, request: HistoryRequest) -> Iterator[Bars | CorporateAction]:
        if request.symbol == "GOOD":
            yield from super().history(request)


class Confused(Good):
    def history(self, request: HistoryRequest) -> Iterator[Bars | CorporateAction]:
        if request.symbol != "GOOD":
            raise KeyError(request.symbol)
        return super().history(request)


class Forgetful(Good):
    def symbols(self, query: str, limit: int) -> list[Instrument]:
        return []


@pytest.mark.parametrize(
    ("provider", "broken"),
    [
        (Good, []),
        (NoBars, ["D1"]),
        (NaN, ["D2", "D6", "D7"]),  # NaN is not even like itself
        (HighBelowClose, ["D2"]),
        (NewestPageFirst, ["D3", "D7"]),
        (Generous, ["D4", "D7"]),
        (ClosingStamps, ["D5"]),
        (Fickle, ["D6", "D7"]),
        (RandomWalk, ["D7"]),
        (OddAction, ["D8"]),
        (SilentAboutUnknown, ["D9"]),
        (Confused, ["D9"]),
        (Forgetful, ["D10"]),
    ],
)
def test_each_check_finds_its_fault(provider: type[Provider], broken: list[str]) -> None:
    assert [fault.split()[0] for fault in check(provider(), REQUEST)] == broken


def test_prices_made_up_for_an_unknown_symbol_are_found() -> None:
    assert "D9 NO-SUCH-SYMBOL is answered with 1 bars, not by SymbolNotFound" in check(Inventive(), REQUEST)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_providers_are_checked_on_their_own_loop(backend: str) -> None:
    class Async(Provider):
        opened = closed = False

        async def setup(self) -> None:
            self.opened = True

        async def close(self) -> None:
            self.closed = True

        async def history(self, request: HistoryRequest) -> AsyncIterator[Bars]:
            for part in Good().history(request):
                if isinstance(part, Bars):
                    yield part

    Async.backend = backend  # type: ignore[assignment]
    provider = Async()
    assert check(provider, REQUEST) == []
    assert provider.opened
    assert provider.closed


def test_a_provider_that_cannot_answer_the_sample_raises() -> None:
    class Locked(Provider):
        def history(self, request: HistoryRequest) -> None:
            raise AuthFailed("no key")

    with pytest.raises(AuthFailed):
        check(Locked(), REQUEST)
