"""A trace as spans and metrics of OpenTelemetry (https://opentelemetry.io), for services; needs the extra `otel`.

A span for each record, "scardface.command" for instance, a child of the span that was current where the command was sent. The
metrics, by the reader's name:

| name | what |
| --- | --- |
| scardface.exchanges | commands and raw exchanges, a counter |
| scardface.exchange.duration | seconds that they took, a histogram |
| scardface.errors | what failed, a counter, by `error.type`, the class |
| scardface.cards | cards that were opened since the writer began, less those that were closed |
| scardface.waiters | acquisitions under way in the process, a gauge |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._waiting.driver import waiters
from ..errors import pip_install
from ._record import Record

_EXCHANGES = ("command", "transmit")


class OpenTelemetryWriter:
    """Writes a trace as spans and metrics.

    Args:
        tracer_provider: None: the global one.
        meter_provider: None: the global one.

    Raises:
        ImportError: opentelemetry-api is not installed.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ImportError(f"OpenTelemetryWriter needs opentelemetry-api: {pip_install('otel')}") from error
        self._trace = trace
        self._tracer = trace.get_tracer("scardface", tracer_provider=tracer_provider)
        meter = metrics.get_meter("scardface", meter_provider=meter_provider)
        self._exchanges = meter.create_counter("scardface.exchanges", "{exchange}", "Commands and raw exchanges")
        self._seconds = meter.create_histogram("scardface.exchange.duration", "s", "What an exchange took, with all its steps")
        self._errors = meter.create_counter("scardface.errors", "{error}", "What failed, by the class of the error")
        self._cards = meter.create_up_down_counter("scardface.cards", "{card}", "Open cards")

        def count(_options: Any) -> Iterable[Any]:
            return [metrics.Observation(waiters())]

        meter.create_observable_gauge("scardface.waiters", [count], "{waiter}", "Acquisitions under way")

    def __call__(self, record: Record) -> None:
        """Write a span, and count."""
        attributes: dict[str, Any] = {"scardface.reader": record.reader}
        if record.kind in _EXCHANGES:
            self._exchanges.add(1, attributes)
            self._seconds.record(record.seconds, attributes)
        elif record.kind == "connect" and not record.error:
            self._cards.add(1, attributes)
        elif record.kind == "disconnect":
            self._cards.add(-1, attributes)
        if record.error:
            self._errors.add(1, {**attributes, "error.type": record.error_class})
        span = self._tracer.start_span(
            f"scardface.{record.kind}",
            kind=self._trace.SpanKind.CLIENT,
            start_time=round(record.time * 1e9),
            attributes={
                **attributes,
                "scardface.text": record.text,
                "scardface.answer": record.answer,
                "scardface.steps": len(record.steps),
            },
        )
        if record.error:
            span.set_attribute("error.type", record.error_class)
            span.set_status(self._trace.StatusCode.ERROR, record.error)
        span.end(round((record.time + record.seconds) * 1e9))
