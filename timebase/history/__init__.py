"""One question end to end: cover -> demand -> wait -> read -> adjust. Start reading at `historian.py`."""
