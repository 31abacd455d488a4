"""Several bases in one service: while a release is on its way, devices hold one of two, and old tables live on for weeks.

    ask  ──its base id and table id──►  the issuer for just these      or the first one, which refuses it by name

All share one store, so that a device's sequence goes on whatever it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ossia.adaptation.request import Reply
from ossia.service.batching import Begun
from ossia.service.issue import Issuer, Order


@dataclass(frozen=True, eq=False)
class Issuers:
    """Issuers by what they are for.

    Attributes:
        all: at least one; the first is what the service offers.
    """

    all: tuple[Issuer, ...]

    def begin(self, orders: Sequence[Order]) -> Begun[Reply]:
        """Begin a batch, each order with the issuer for its base and table.

        Args:
            orders: any number.

        Returns:
            what is left to do; one answer per order, in order.
        """
        if len(self.all) == 1:
            return self.all[0].begin(orders)
        parts = [(places, issuer.begin([orders[at] for at in places])) for issuer, places in self._sorted(orders).items()]

        def finish() -> list[Reply | Exception]:
            answers = {at: told for places, begun in parts for at, told in zip(places, begun.finish(), strict=True)}
            return [answers[at] for at in range(len(orders))]

        return Begun([promise for _, begun in parts for promise in begun.promises], finish)

    def of(self, base_id: bytes, table_id: bytes) -> Issuer:
        """Find the issuer for a base and a table.

        Args:
            base_id: 16 bytes.
            table_id: 16 bytes.

        Returns:
            the issuer; one for the base with another table, or else the first: these refuse by name.
        """
        return self._by_table.get((base_id, table_id)) or self._by_base.get(base_id, self.all[0])

    def _sorted(self, orders: Sequence[Order]) -> dict[Issuer, list[int]]:
        """Tell which orders are whose."""
        places: dict[Issuer, list[int]] = {}
        for place, order in enumerate(orders):
            places.setdefault(self.of(order.ask.base_id, order.ask.table_id), []).append(place)
        return places

    @cached_property
    def _by_table(self) -> Mapping[tuple[bytes, bytes], Issuer]:
        return {(issuer.base.id[:16], issuer.base.table.id[:16]): issuer for issuer in reversed(self.all)}

    @cached_property
    def _by_base(self) -> Mapping[bytes, Issuer]:
        return {issuer.base.id[:16]: issuer for issuer in reversed(self.all)}
