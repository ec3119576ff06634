"""One question end to end: cover -> demand -> wait -> read -> adjust -> resample. Start reading at `historian.py`."""
