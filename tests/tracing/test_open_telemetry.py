"""scardface.tracing: spans and metrics."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scardface import C_APDU, CardRemovedError, sync, tracing
from scardface.testing import SimulatedPCSC

PIN = b"1234567"
SECRET = PIN.hex().upper()


def test_spans_and_metrics(pcsc: SimulatedPCSC) -> None:
    exporter, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    try:
        with tracing.trace(tracing.OpenTelemetryWriter(provider, meters)), sync.SCard("A", timeout=10) as card:
            with otel.get_tracer("test", tracer_provider=provider).start_as_current_span("login"):
                card.send(C_APDU(0, 0x20, 0, 0x81, PIN))
            pcsc.remove("A")
            with pytest.raises(CardRemovedError):
                card.send(b"\x00\x84\x00\x00\x08")
        spans = {span.name: span for span in exporter.get_finished_spans()}
        assert {"scardface.connect", "scardface.command", "scardface.disconnect", "login"} <= set(spans)
        parents = [
            span.parent and span.parent.span_id for span in exporter.get_finished_spans() if span.name == "scardface.command"
        ]
        login = spans["login"].context
        assert login is not None
        assert parents == [login.span_id, None]
        assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())
        data = reader.get_metrics_data()
        assert data is not None
        found: dict[str, Any] = {
            metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics
        }
        assert [point.value for point in found["scardface.exchanges"]] == [2]
        assert [point.value for point in found["scardface.cards"]] == [0]
        assert {point.attributes["error.type"] for point in found["scardface.errors"]} == {"CardRemovedError"}
        assert [point.count for point in found["scardface.exchange.duration"]] == [2]
        assert [point.value for point in found["scardface.waiters"]] == [0]
    finally:
        meters.shutdown()
        provider.shutdown()


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"scardface\[otel\]"):
        tracing.OpenTelemetryWriter()
