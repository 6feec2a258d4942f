"""What the service counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from cxr_core.service.limits import Room

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FILMS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service, in a registry of their own.

    Args:
        room: what films and bytes are held.
    """

    def __init__(self, room: Room) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "cxr_requests",
            "Requests that ended, by route and status; 499: the client had gone.",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "cxr_request_seconds",
            "From a request's first byte to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.films = Counter(
            "cxr_films",
            "Films by what came of them: answered, refused by the gate, forced, unreadable.",
            ["model", "outcome"],
            registry=registry,
        )
        self.batches = Histogram(
            "cxr_batch_films",
            "Films that a network was asked about at once.",
            ["model"],
            buckets=_FILMS,
            registry=registry,
        )
        self.rejected = Counter(
            "cxr_rejected",
            "Requests that a limit refused, by the limit.",
            ["limit"],
            registry=registry,
        )
        queue = Gauge("cxr_queue_films", "Films taken in and not answered yet.", registry=registry)
        queue.set_function(lambda: room.films)
        held = Gauge("cxr_held_bytes", "Bytes of files that are held.", registry=registry)
        held.set_function(lambda: room.bytes)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all counters, and the media type that they are written in.

        Args:
            accept: what the client reads, the header of that name.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type
