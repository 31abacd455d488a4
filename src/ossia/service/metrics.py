"""What the operator sees of the service: counts and times, for Prometheus. No id of a device or an item is ever a label.

Labels come from closed tables (routes, HTTP status, reasons): neither a hostile path nor a growing catalog makes new series.
Nothing here is logged per request.
"""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.samples import Sample

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """The service's own series, in a registry of its own, so that two services in one process do not mix.

    Attributes:
        payloads: signed payloads given out.
        refusals: answers that were no payload, by reason.
        responses: all responses, by route and status.
        in_flight: asks that wait or are worked on.
        halts: releases halted because devices complained.
        seconds: time from an ask's last byte to its answer.
        turned_away: asks refused at the door since the series were last read; plain, for a series has a lock, which takes
            as long as reading an ask.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.payloads = Counter("ossia_payloads", "Signed payloads given out.", registry=self.registry)
        self.refusals = Counter("ossia_refusals", "Asks refused, by reason.", ["reason"], registry=self.registry)
        self.responses = Counter(
            "ossia_responses", "Responses, by route and status.", ["route", "status"], registry=self.registry
        )
        self.in_flight = Gauge("ossia_in_flight", "Asks that wait or are worked on.", registry=self.registry)
        self.halts = Counter("ossia_halts", "Releases halted because devices complained.", registry=self.registry)
        self.seconds = Histogram("ossia_payload_seconds", "From ask to answer.", buckets=BUCKETS_S, registry=self.registry)
        self.turned_away = 0
        self._response = lru_cache(maxsize=1024)(lambda route, status: self.responses.labels(route, str(status)))

    def respond(self, route: str, status: int) -> None:
        """Count a response.

        Args:
            route: the name of the route, never the path that was asked for.
            status: HTTP's.
        """
        self._response(route, status).inc()

    def page(self) -> bytes:
        """Write all series.

        Returns:
            Prometheus' text format.
        """
        self._settle()
        return generate_latest(self.registry)

    def samples(self) -> list[Sample]:
        """Read all series.

        Returns:
            their values, in order.
        """
        self._settle()
        return [sample for family in self.registry.collect() for sample in family.samples]

    def _settle(self) -> None:
        """Count those who were turned away."""
        if self.turned_away:
            self.refusals.labels("overloaded").inc(self.turned_away)
            self.turned_away = 0
