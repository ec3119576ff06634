"""TimeBase: a self-hosted market-data server. Start reading at `app.py`."""
