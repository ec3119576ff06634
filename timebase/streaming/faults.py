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
            loss = self._losses[topic.channel] = Loss(Event(fault, topic.channel, topic.newest, provider))
            topic.show(loss.told)
        loss.rows += rows

    def end_loss(self, topic: Topic, provider: str) -> None:
        """Something of it is stored; followers hear how much was not, if anything."""
        loss = self._losses.pop(topic.channel, None) if self._losses else None
        if loss is not None:
            what = "bars" if topic.channel.kind is FeedKind.BARS else topic.channel.kind.value
            fault = Fault(NOT_STORED, f"it is stored and shown again; {loss.rows} {what} were not")
            topic.show(Event(fault, topic.channel, topic.newest, provider))

    def forget(self, channel: Channel) -> None:
        self._refused.pop(channel, None)
        self._losses.pop(channel, None)
