"""A trace begins with whoever speaks first and goes on through whoever hears and speaks."""

from muster_bus.tracing import TRACEPARENT_HEADER, continued, trace_id, traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_what_is_said_within_a_heard_trace_is_a_new_span_of_it() -> None:
    with continued({TRACEPARENT_HEADER: f"00-{TRACE}-b7ad6b7169203331-01"}):
        first, second = traceparent(), traceparent()
        assert trace_id() == TRACE
    assert first != second
    assert first.startswith(f"00-{TRACE}-")
    assert first.endswith("-01")
    assert trace_id() is None


def test_an_ill_formed_trace_is_not_carried_on() -> None:
    for header in (
        "",
        "nonsense",
        f"00-{TRACE}-b7ad6b7169203331-01\r\nx: y",
        f"ff-{TRACE}-b7ad6b7169203331-01",
    ):
        with continued({TRACEPARENT_HEADER: header}):
            assert trace_id() not in {None, TRACE}
    assert traceparent().split("-")[1] != traceparent().split("-")[1]
