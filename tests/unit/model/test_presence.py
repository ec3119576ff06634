"""What says that a connection is there."""

from timebase.model.presence import NEVER_US, Presence
from timebase.model.timerange import DAY_US

MADE_US = 1_000 * DAY_US


def test_what_is_old_counts_until_something_happens_after_the_connection_was_made():
    presence = Presence(MADE_US)
    assert not presence.hear(MADE_US - 365 * DAY_US)
    assert not presence.hear(MADE_US - 1)
    assert (presence.is_now, presence.from_us) == (False, NEVER_US)
    assert presence.hear(MADE_US)
    assert (presence.is_now, presence.from_us) == (True, MADE_US)


def test_it_begins_once():
    presence = Presence(MADE_US)
    assert presence.hear(MADE_US + 5)
    assert not presence.hear(MADE_US + 6)
    assert not presence.hear(MADE_US - 6)
    assert presence.is_now


def test_an_old_pulse_tells_a_tape():
    presence = Presence(MADE_US)
    presence.hear(MADE_US - DAY_US)
    assert not presence.is_sure
    presence.hear(MADE_US - DAY_US, is_pulse=True)
    assert presence.is_sure
    assert not presence.is_now


def test_a_pulse_of_a_clock_that_is_a_little_behind_tells_no_tape():
    presence = Presence(MADE_US)
    presence.hear(MADE_US - 2_000_000, is_pulse=True)
    assert not presence.is_sure
