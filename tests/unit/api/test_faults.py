"""Errors become problems: the right status, what to try, and nothing that is not the client's business."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from timebase import errors
from timebase.api import faults
from timebase.api.exchange import Reply
from timebase.api.faults import FAULTS, problem
from timebase.model.receipt import Attempt

ATTEMPTS = (
    Attempt("yahoo-finance", "rate_limited", "429", 12),
    Attempt("tiingo", "auth", "401", 20),
    Attempt("demo", "unavailable", "backing off"),
)


def content_of(reply: Reply) -> Mapping[str, Any]:
    assert isinstance(reply.body, bytes)
    assert reply.content_type == "application/problem+json"
    content = json.loads(reply.body)
    assert content["status"] == reply.status
    assert content["request_id"] == "r1"
    return content  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.BadParameter("interval", "is bad", ("1d",)), 422, "bad_parameter"),
        (errors.UnknownSymbol("APPL", ("AAPL",)), 404, "unknown_symbol"),
        (errors.UnknownProvider("x", ("demo",)), 404, "unknown_provider"),
        (errors.NotSupported("no options"), 422, "not_supported"),
        (errors.RequestError("no"), 400, "bad_request"),
        (errors.AllProvidersFailed("AAPL", ATTEMPTS), 502, "all_providers_failed"),
        (errors.Malformed("garbage"), 502, "malformed"),
        (errors.StoreUnavailable("away"), 503, "store_unavailable"),
        (errors.ConfigError(["a: b"]), 409, "config"),
        (faults.DeadlineExceeded(60, ATTEMPTS), 504, "deadline_exceeded"),
        (faults.UnknownPath("/x", ()), 404, "unknown_path"),
        (faults.MethodNotAllowed("PUT", ("GET",)), 405, "method_not_allowed"),
        (faults.Unauthorized("no"), 401, "unauthorized"),
        (faults.CrossOrigin("no"), 403, "cross_origin"),
    ],
)
def test_each_class_has_its_status_and_keeps_its_code(error: Exception, status: int, code: str) -> None:
    reply = problem(error, "r1")
    content = content_of(reply)
    assert (reply.status, content["code"]) == (status, code)
    assert content["type"] == f"/docs#{code}"
    assert content["detail"] == str(error)


def test_every_error_of_the_tree_finds_its_line() -> None:
    def tree(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]

    for kind in tree(errors.TimeBaseError)[1:]:
        if kind.__module__ == "timebase.errors" or kind.__module__.startswith("timebase.api."):
            assert any(issubclass(kind, listed) for listed in list(FAULTS)[:-2]), kind


def test_special_classes_come_before_general_ones() -> None:
    listed = list(FAULTS)
    for at, kind in enumerate(listed):
        assert not any(issubclass(later, kind) and later is not kind for later in listed[at + 1 :]), kind


def test_a_failure_of_all_says_what_was_tried_and_what_to_do() -> None:
    content = content_of(problem(errors.AllProvidersFailed("AAPL", ATTEMPTS), "r1"))
    assert [each["provider"] for each in content["attempts"]] == ["yahoo-finance", "tiingo", "demo"]
    advice = " ".join(content["suggestions"])
    assert "tiingo: check its secret" in advice
    assert "yahoo-finance: its rate limit is used up" in advice
    assert "/api/v1/explain/AAPL" in advice


def test_near_symbols_are_the_first_suggestions() -> None:
    content = content_of(problem(errors.UnknownSymbol("APPL", ("AAPL", "APLE")), "r1"))
    assert content["suggestions"][:2] == ["AAPL", "APLE"]


def test_a_bad_parameter_is_named_with_what_is_allowed() -> None:
    content = content_of(problem(errors.BadParameter("adjust", "is bad", ("raw", "all")), "r1"))
    assert (content["parameter"], content["allowed"]) == ("adjust", ["raw", "all"])


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.AllProvidersFailed("A", (), retry_after_s=12.2), "13"),
        (errors.AllProvidersFailed("A", (), retry_after_s=0.0), "1"),
        (errors.RateLimited(retry_after_s=3), "3"),
        (errors.StoreUnavailable("away"), "5"),
    ],
)
def test_the_client_is_told_when_to_come_back(error: Exception, seconds: str) -> None:
    assert dict(problem(error, "r1").headers)["retry-after"] == seconds


def test_headers_say_what_their_status_asks_for() -> None:
    assert dict(problem(faults.Unauthorized("no"), "r1").headers)["www-authenticate"].startswith("Bearer")
    assert dict(problem(faults.MethodNotAllowed("PUT", ("GET", "HEAD")), "r1").headers)["allow"] == "GET, HEAD"


@pytest.mark.parametrize("expected_errors", [["request r1 failed"]])
def test_a_bug_is_logged_and_hidden(expected_errors: list[str], caplog: pytest.LogCaptureFixture) -> None:
    content = content_of(problem(KeyError("password=hunter2"), "r1"))
    assert (content["status"], content["code"]) == (500, "internal")
    assert "hunter2" not in json.dumps(content)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


def test_the_one_error_in_a_nurserys_group_is_the_error() -> None:
    group = ExceptionGroup("", [ExceptionGroup("", [errors.UnknownSymbol("X")])])
    assert content_of(problem(group, "r1"))["code"] == "unknown_symbol"


def test_attempts_that_failed_alike_are_told_once() -> None:
    alike = [Attempt("yahoo-finance", "upstream", "HTTP 500", ms) for ms in (3, 5)]
    detail = content_of(problem(errors.AllProvidersFailed("AAPL", alike), "r1"))["detail"]
    assert detail == "no provider could answer for AAPL: yahoo-finance: upstream (HTTP 500), 2 times"
