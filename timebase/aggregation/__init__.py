"""Ticks to bars, every interval in one pass: stage ④ of the road. Pure except for the actor's two channels.

tape (what traded) -> seconds -> minutes -> … -> months (rows, calendar, ladder) -> bar builder -> aggregator
"""
