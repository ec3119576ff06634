"""Silence is judged by the feed's own rhythm."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.live.rhythm import ENOUGH, Patience, Rhythm, Signs, judge, limit_s
from timebase.model.feed import FeedState

P = Patience()


def rhythm_of(*pauses):
    rhythm = Rhythm()
    for pause_s in pauses:
        rhythm.note(pause_s)
    return rhythm


def test_nothing_is_usual_after_a_few_pauses():
    assert rhythm_of(*[1.0] * (ENOUGH - 1)).usual_s is None
    assert rhythm_of(*[1.0] * ENOUGH).usual_s == pytest.approx(1.0, rel=0.5)


@pytest.mark.parametrize("scale_s", [0.02, 1.0, 60.0, 1_000.0])
def test_what_is_usual_is_the_rare_long_pause_not_the_mean(scale_s):
    draw = random.Random(7)
    usual_s = rhythm_of(*(draw.expovariate(1 / scale_s) for _ in range(5_000))).usual_s
    assert 3.3 * scale_s <= usual_s <= 6.6 * scale_s  # the 99th percentile of the law is 4.6, a bin is half an octave


def test_one_bad_night_does_not_change_it():
    usual_s = rhythm_of(*[1.0] * 500).usual_s
    assert rhythm_of(*[1.0] * 499, 9_000.0).usual_s == usual_s


def test_what_was_long_ago_fades():
    assert rhythm_of(*[100.0] * 500, *[1.0] * 5_000).usual_s < 2


@given(st.lists(st.floats(0, 1e6), min_size=ENOUGH, max_size=200))
def test_what_is_usual_lies_among_the_pauses(pauses):
    usual_s = rhythm_of(*pauses).usual_s
    assert usual_s <= max(0.01, 2 * max(pauses))
    assert usual_s >= min(*pauses, 0.01)


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        (Signs(5, usual_s=0.1), FeedState.LIVE),
        (Signs(11, usual_s=0.1), FeedState.MUTE),
        (Signs(11, pulse_s=3, usual_s=0.1), FeedState.QUIET),
        (Signs(11, pulse_s=60, usual_s=0.1), FeedState.MUTE),
        (Signs(301, pulse_s=3, usual_s=0.1), FeedState.MUTE),  # far beyond its rhythm: the pulses do not excuse it
        (Signs(301, pulse_s=3, usual_s=60.0), FeedState.QUIET),
        (Signs(1_300, pulse_s=3, usual_s=60.0), FeedState.MUTE),
        (Signs(100), FeedState.LIVE),
        (Signs(121), FeedState.MUTE),
        (Signs(121, pulse_s=3), FeedState.QUIET),
        (Signs(99_999, pulse_s=3), FeedState.QUIET),  # its rhythm is not known: nothing is far beyond it
        (Signs(5, has_begun=False), FeedState.CONNECTING),
        (Signs(99_999, usual_s=0.1, is_open=False), FeedState.CLOSED),
        (Signs(1_801, usual_s=7_000.0), FeedState.MUTE),  # nobody is trusted for longer than the ceiling
        (Signs(1_801, pulse_s=3, usual_s=7_000.0), FeedState.QUIET),
    ],
)
def test_signs_speak_for_a_state(signs, state):
    assert judge(signs, P)[0] is state


def test_a_feed_that_stays_silent_is_given_twice_the_time_each_time():
    limits = [limit_s(Signs(0, usual_s=0.1, mutes=n), P) for n in range(10)]
    assert limits == [10, 20, 40, 80, 160, 320, 640, 1_280, 1_800, 1_800]
