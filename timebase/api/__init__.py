"""HTTP in, HTTP out: the only importer of quart and hypercorn. Asks history, renders its answers, holds no state.

Start reading at `routes.py` (what can be asked) and `dispatch.py` (what happens to every request).
"""
