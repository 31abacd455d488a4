"""Asks in, signed payloads out: what the service does for one batch. No network here, and one promise to the disk.

    begin     asks ── network, plan, climb ── adaptations
              sequences ── advance ── the disk's promise
    finish    adaptations, sequences ── encode, sign ── replies

The store takes the next sequences while the adaptations are worked out; nothing is signed before they are committed, so that
no sequence is ever signed twice, whatever is killed when. What is wrong with one ask is its own answer, and its neighbors'
bytes do not depend on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.held_rows import decode_held, missing_rows
from ossia.adaptation.payload import encode_payload
from ossia.adaptation.request import Ask, Reply
from ossia.device.ranking import top_k
from ossia.errors import BudgetError, PayloadError
from ossia.service.answerer import Answerer, RowCodes
from ossia.service.batching import PATIENCE_S, Begun
from ossia.service.faults import RequestError, unauthorized
from ossia.service.keychain import Signer
from ossia.service.store import Store
from ossia.types import Profile


@dataclass(frozen=True, eq=False)
class Order:
    """An ask, and who asks.

    Attributes:
        device: 16 bytes, as its token says.
        ask: what it wants.
        now: when it came, seconds since 1970.
        block: rows that must not be among the candidates.
    """

    device: bytes
    ask: Ask
    now: int
    block: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Issuer:
    """Makes signed payloads for one base with one key.

    Attributes:
        personalizer: of the base.
        signer: the online key.
        store: remembers sequences.
        life_s: how long a payload is valid; never longer than its key.
    """

    personalizer: Answerer[Any]
    signer: Signer
    store: Store
    life_s: int = 30 * 86_400

    @property
    def base(self) -> Base:
        """The base that payloads are for."""
        return self.personalizer.base

    def issue(self, orders: Sequence[Order]) -> list[Reply | Exception]:
        """Answer a batch and wait for the disk: to each order a reply, or what is wrong with it.

        Args:
            orders: any number.

        Returns:
            one answer per order, in order.
        """
        begun = self.begin(orders)
        for promise in begun.promises:
            promise.result(PATIENCE_S)
        return list(begun.finish())

    def begin(self, orders: Sequence[Order]) -> Begun[Reply]:
        """Judge a batch, ask for its sequences, and work out its adaptations.

        Args:
            orders: any number.

        Returns:
            what is left to do when the sequences are on the disk; one answer per order, in order.
        """
        plans = [self._plan(order) for order in orders]
        good = [index for index, plan in enumerate(plans) if not isinstance(plan, Exception)]
        sequences = self.store.advance([orders[index].device for index in good])
        held = [self._held(orders[index].ask) for index in good]
        adaptations = self.personalizer.allocate_many(
            [orders[index].ask.profile for index in good], [plans[index] for index in good], held
        )

        def finish() -> list[Reply | Exception]:
            answers = list(plans)
            for index, sequence, adaptation, there in zip(good, sequences.result(0), adaptations, held, strict=True):
                answers[index] = self._reply(orders[index], sequence, adaptation, there)
            return answers

        return Begun([sequences], finish)

    def candidates(self, profile: Profile, count: int, block: frozenset[int]) -> Int32[np.ndarray, " shown"]:
        """Find the base's own best rows for a user, exactly.

        Args:
            profile: the user's state.
            count: how many.
            block: rows to leave out.

        Returns:
            row numbers, best first; fewer where the table has fewer.
        """
        scores = self._rows @ profile.state
        if not profile.scale:  # nobody's state: what is popular
            scores = self._popularity.copy()
        scores[list(block)] = -np.inf
        best = top_k(scores, min(count, len(scores) - len(block)))
        return best.astype(np.int32)

    def _plan(self, order: Order) -> Any:
        """Judge an ask before anything is promised for it: a plan, or what is wrong."""
        ask = order.ask
        if ask.base_id != self.base.id[:16]:
            return PayloadError(f"base: expected an ask for base {self.base.id[:16].hex()}, got another", "another_base")
        if ask.table_id != self.base.table.id[:16]:
            return PayloadError(f"table: expected table {self.base.table.id[:16].hex()}, got another", "another_table")
        clip = self.base.manifest.profile_clip
        most = 127 * float(ask.profile.scale)
        if most > 1.001 * clip:  # beyond it, arithmetic on a stranger's numbers may overflow
            return PayloadError(f"profile: expected a state within ± {clip:g}, got one up to {most:g}")
        if ask.held and (fault := _check_held(ask.held, len(self.base.table))) is not None:
            return fault
        if order.now >= self.signer.expiry:
            return RequestError(503, "no_key", "key: expected one that has not expired; `ossia keys rotate`, then restart")
        try:
            return self.personalizer.plan(ask.budget, signed=True)
        except BudgetError as error:
            return error

    def _held(self, ask: Ask) -> RowCodes | None:
        """Read which rows a device says that it has; most have none."""
        return decode_held(ask.held, len(self.base.table)) if ask.held else None

    def _reply(self, order: Order, sequence: int | None, adaptation: Adaptation, held: RowCodes | None) -> Reply | RequestError:
        """Encode and sign, for a device that is enrolled."""
        if sequence is None:
            return _unknown()
        ask, signer = order.ask, self.signer
        payload = encode_payload(
            self.base,
            adaptation,
            device_id=order.device,
            sequence=sequence,
            issued=order.now,
            expiry=min(order.now + self.life_s, signer.expiry),
            key_id=signer.key_id,
            sign=signer.sign,
        )
        wanted = self.candidates(ask.profile, ask.candidates, order.block) if ask.candidates else NO_CANDIDATES
        return Reply(payload, wanted, self._rows_for(ask, adaptation, held))

    def _rows_for(self, ask: Ask, adaptation: Adaptation, held: RowCodes | None) -> bytes:
        """Take the rows that an ask wants, less those that it says are held; who claims too much has too little."""
        if not ask.rows or adaptation.rows is None:
            return b""
        if held is None:
            return self.base.table.row_bytes(adaptation.rows)
        return missing_rows(self.base.table, adaptation.rows, held)

    @cached_property
    def _rows(self) -> np.ndarray:
        """The item vectors as the base scores with them."""
        return self.base.table.whole.dequantize()

    @cached_property
    def _popularity(self) -> np.ndarray:
        """A score per row that falls with popularity."""
        scores = np.empty(len(self.base.table), np.float32)
        scores[self.base.table.popularity] = -np.arange(len(scores), dtype=np.float32)
        return scores


NO_CANDIDATES = np.zeros(0, np.int32)


def _check_held(held: bytes, rows: int) -> PayloadError | None:
    """Say what is wrong with lists of rows; most asks have none."""
    try:
        decode_held(held, rows)
    except PayloadError as error:
        return error
    return None


def _unknown() -> RequestError:
    """Make the refusal of a device whose token holds, but which was erased."""
    return unauthorized("device: expected one that is enrolled, got another")
