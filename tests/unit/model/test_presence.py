"""What says that a connection is there."""

from timebase.model.presence import NEVER_US, Presence
from timebase.model.timerange import DAY_US, SECOND_US

MADE_US = 1_000 * DAY_US
LONG_AGO_US = MADE_US - 365 * DAY_US


def test_what_happened_after_it_was_made_says_so_at_once():
    presence = Presence(MADE_US)
    presence.hear(LONG_AGO_US, MADE_US, MADE_US + 9)
    assert (presence.is_known, presence.from_us, presence.first_us) == (True, MADE_US, MADE_US)


def test_what_is_old_says_nothing():
    presence = Presence(MADE_US)
    presence.hear(LONG_AGO_US, MADE_US - 1, MADE_US + 9)
    assert not presence.is_known


def test_what_was_old_does_not_count_any_more_when_the_present_comes():
    presence = Presence(MADE_US)
    presence.hear(LONG_AGO_US, LONG_AGO_US, MADE_US + 9)
    presence.pulse(MADE_US + 1)
    assert (presence.is_known, presence.from_us, presence.first_us) == (True, MADE_US, None)


def test_an_old_pulse_says_that_it_is_a_tape():
    presence = Presence(MADE_US)
    presence.hear(LONG_AGO_US, LONG_AGO_US + 5, MADE_US + 9)
    presence.pulse(LONG_AGO_US + 6)
    assert (presence.is_known, presence.from_us, presence.first_us) == (True, NEVER_US, LONG_AGO_US)


def test_a_pulse_of_a_clock_that_is_a_little_behind_says_nothing_yet():
    presence = Presence(MADE_US)
    presence.pulse(MADE_US - 2 * SECOND_US)
    assert not presence.is_known


def test_what_goes_on_being_old_is_a_tape_without_pulses():
    presence = Presence(MADE_US)
    presence.hear(LONG_AGO_US, LONG_AGO_US, MADE_US + 8 * SECOND_US)
    presence.hear(LONG_AGO_US + 1, LONG_AGO_US + 1, MADE_US + 9 * SECOND_US)
    assert not presence.is_known
    presence.hear(LONG_AGO_US + 2, LONG_AGO_US + 2, MADE_US + 13 * SECOND_US)
    assert (presence.is_known, presence.from_us, presence.first_us) == (True, NEVER_US, LONG_AGO_US)


def test_a_tape_stays_one_also_when_it_reaches_the_present():
    presence = Presence(MADE_US)
    presence.pulse(LONG_AGO_US)
    presence.hear(MADE_US, MADE_US, MADE_US + 9)
    assert presence.from_us == NEVER_US
