"""The pauses between a provider's fall and its next start."""

from timebase.supervisor.backoff import HEALTHY_S, MAX_S, Backoff


def test_pauses_double_up_to_a_minute_and_stay_there_for_ever() -> None:
    backoff = Backoff()
    assert [backoff.pause_s(0, jitter=0.5) for _ in range(10)] == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert {backoff.pause_s(0, jitter=0.5) for _ in range(1000)} == {MAX_S}


def test_jitter_moves_a_pause_by_a_fifth_either_way() -> None:
    assert [round(Backoff().pause_s(0, jitter=jitter), 3) for jitter in (0, 1)] == [0.2, 0.3]
    assert 0.2 <= Backoff().pause_s(0) <= 0.3


def test_a_minute_of_health_forgives_what_was() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.pause_s(HEALTHY_S - 1)
    assert backoff.pause_s(HEALTHY_S, jitter=0.5) == 0.25
    assert backoff.pause_s(0, jitter=0.5) == 0.5
    backoff.reset()
    assert backoff.pause_s(0, jitter=0.5) == 0.25
