"""What a command says when the server refuses."""

import httpx

from timebase.cli.connection import problem_text

AWAY = {"provider": "demo", "outcome": "upstream", "reason": "HTTP 500", "ms": 3}


def test_an_attempt_is_told_once() -> None:
    told = {"detail": "no provider could answer for AAPL: demo: upstream (HTTP 500)", "attempts": [AWAY, AWAY]}
    assert problem_text(httpx.Response(502, json=told)) == told["detail"]


def test_an_attempt_that_the_detail_leaves_out_is_told() -> None:
    told = {"detail": "not answered within 60 s", "attempts": [AWAY], "suggestions": ["ask again"]}
    assert problem_text(httpx.Response(504, json=told)).splitlines() == [
        "not answered within 60 s", "  demo: upstream HTTP 500", "  try: ask again",
    ]  # fmt: skip


def test_what_is_no_problem_document_is_shown_as_it_is() -> None:
    assert problem_text(httpx.Response(502, text="Bad Gateway")) == "the server answered 502: Bad Gateway"
