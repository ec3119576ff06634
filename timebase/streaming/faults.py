"""What is wrong with a channel: nobody can supply it, or what comes cannot be stored and so is not shown.

Its followers are told once. Who comes later is told too, for as long as it is so.
"""

from dataclasses import dataclass

from timebase.model.feed import Channel, FeedKind
from timebase.streaming.event import Event, Fault
from timebase.streaming.topic import Topic

NOT_STORED = "not_stored"


@dataclass(slots=True)
class Loss:
    topic: Topic
    told: Event
    rows: int = 0


class Faults:
    def __init__(self) -> None:
        self._refused: dict[Channel, Event] = {}
        self._losses: dict[Channel, Loss] = {}

    def of(self, channel: Channel) -> list[Event]:
        refused, loss = self._refused.get(channel), self._losses.get(channel)
        return [*([refused] if refused else []), *([loss.told] if loss else [])]

    def refuse(self, topic: Topic, code: str, message: str) -> None:
        """Nobody can supply it, for now."""
        fault, known = Fault(code, message), self._refused.get(topic.channel)
        if known is None or known.content != fault:
            event = self._refused[topic.channel] = Event(fault, topic.channel, topic.newest)
            topic.show(event)

    def end_refusal(self, channel: Channel) -> None:
        self._refused.pop(channel, None)

    def lose(self, topic: Topic, rows: int, provider: str, why: str) -> None:
        """So many rows could be stored nowhere."""
        loss = self._losses.get(topic.channel)
        if loss is None:
            fault = Fault(NOT_STORED, f"what comes now cannot be stored, so it is not shown: {why}")
            loss = self._losses[topic.channel] = Loss(topic, Event(fault, topic.channel, topic.newest, provider))
            topic.show(loss.told)
        loss.rows += rows

    def end_losses(self) -> None:
        """Something could be stored, whatever it was: followers hear how much could not."""
        for channel, loss in self._losses.items():
            what = "bars" if channel.kind is FeedKind.BARS else channel.kind.value
            fault = Fault(NOT_STORED, f"it is stored and shown again; {loss.rows} {what} were not")
            loss.topic.show(Event(fault, channel, loss.topic.newest, loss.told.provider))
        self._losses.clear()

    def forget(self, channel: Channel) -> None:
        self._refused.pop(channel, None)
        self._losses.pop(channel, None)
