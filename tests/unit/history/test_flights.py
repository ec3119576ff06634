import trio

from timebase.errors import Unavailable, Upstream
from timebase.history.flights import Flight, Flights
from timebase.model.timerange import Ranges, TimeRange

WANTED = Ranges((TimeRange(0, 10),))


async def test_one_flight_serves_all_who_ask(autojump_clock: trio.abc.Clock) -> None:
    fetches = []

    async def fetch(flight: Flight) -> None:
        await trio.sleep(1)
        fetches.append(flight.ranges)

    async with trio.open_nursery() as nursery:
        flights = Flights(nursery)
        joined = [flights.join(7, WANTED, fetch) for _ in range(100)]
        for flight in joined:
            await flight.landed.wait()
    assert fetches == [WANTED]


async def test_a_flight_that_ended_is_not_joined(autojump_clock: trio.abc.Clock) -> None:
    fetches = []

    async def fetch(flight: Flight) -> None:
        await trio.sleep(1)
        fetches.append(flight)

    async with trio.open_nursery() as nursery:
        flights = Flights(nursery)
        for _ in range(2):
            await flights.join(7, WANTED, fetch).landed.wait()
    assert len(fetches) == 2


async def test_a_failure_is_told_to_everyone_on_board() -> None:
    async def fetch(flight: Flight) -> None:
        await trio.lowlevel.checkpoint()
        raise Upstream("503")

    async with trio.open_nursery() as nursery:
        flights = Flights(nursery)
        joined = [flights.join(7, WANTED, fetch) for _ in range(3)]
        for flight in joined:
            await flight.landed.wait()
    assert [str(flight.error) for flight in joined] == ["503"] * 3


async def test_an_asker_that_gives_up_does_not_end_the_flight(autojump_clock: trio.abc.Clock) -> None:
    done = trio.Event()

    async def fetch(flight: Flight) -> None:
        await trio.sleep(10)
        done.set()

    async with trio.open_nursery() as nursery:
        flight = Flights(nursery).join(7, WANTED, fetch)
        with trio.move_on_after(1):
            await flight.landed.wait()
        await done.wait()
    assert flight.error is None


async def test_a_flight_that_the_stop_cuts_off_did_not_succeed() -> None:
    async def fetch(_: Flight) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        flight = Flights(nursery).join(7, WANTED, fetch)
        nursery.cancel_scope.cancel()
    assert isinstance(flight.error, Unavailable)


def test_who_asks_for_the_present_a_moment_later_asks_for_no_more() -> None:
    a_moment_later = Ranges((TimeRange(0, 11),))
    assert not Flight(WANTED, is_live=True).leaves(a_moment_later)
    assert Flight(WANTED).leaves(a_moment_later) == Ranges((TimeRange(10, 11),))
