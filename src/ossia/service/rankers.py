"""From adaptations to rankers by the way that a device goes: every step that a byte takes is taken here too.

    history ─► profile (bytes) ─► personalize ─► Adaptation ─encode─► Payload (bytes) ─decode─► apply ─► Ranker

What is judged is therefore what a device would do, its rounding and its format included, and not a shortcut inside the trainer.
A `Delivery` holds one payload per case with what it costs; `receive` turns it into the function from a case's number to
that case's ranker which `ossia.evaluation.judge` takes. Rankers are made one at a time and dropped: a thousand users' folded
weights never lie in memory together.

No network here, no store and no signature: those are the payload service's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int
from threadpoolctl import threadpool_limits

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.cost import Costs, costs
from ossia.adaptation.payload import decode_payload, encode_payload
from ossia.adaptation.prices import WHOLE
from ossia.adaptation.profile import decode_profile, encode_profile, make_profile
from ossia.device.runtimes import RUNTIMES, Runtime, StateRanker
from ossia.errors import UsageError
from ossia.types import Profile, Ranker

ISSUED, EXPIRY = 0, 2**32 - 1
"""Payloads that are made to be judged at once are valid at any time, so that the same input gives the same bytes."""


@dataclass(frozen=True, eq=False)
class Delivery:
    """What the cloud sent to some devices, a payload each, and what that costs them.

    Attributes:
        payloads: as they cross the wire.
        costs: of each; `download_bytes` is what must go to a device that holds the base, and of the table nothing that the
            payload names.
    """

    payloads: tuple[bytes, ...]
    costs: tuple[Costs, ...]

    @property
    def rest_bytes(self) -> float:
        """What a device keeps: encoder and table, mean over devices."""
        return float(np.mean([each.weight_bytes + each.table_bytes for each in self.costs]))

    @property
    def device_bytes(self) -> float:
        """What goes to a device: its payload, and rows that it does not hold yet; mean over devices."""
        return float(np.mean([each.download_bytes for each in self.costs]))

    @property
    def payload_bytes(self) -> float:
        """The payload alone, mean over devices."""
        return float(np.mean([len(payload) for payload in self.payloads]))

    def to(self, order: Int[np.ndarray, " cases"]) -> "Delivery":
        """Deliver the same payloads to other devices, such as to everybody another user's.

        Args:
            order: device i gets payload `order[i]`.

        Returns:
            the other delivery.
        """
        return Delivery(tuple(self.payloads[i] for i in order), tuple(self.costs[i] for i in order))


def make_profiles(base: Base, histories: Iterable[Int[np.ndarray, " _"]], *, runtime: str = "numpy") -> list[Profile]:
    """Compute each device's profile, send it as bytes, and read them in the cloud.

    Args:
        base: the base on the devices.
        histories: item rows, oldest first, one history per device.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.

    Returns:
        the profiles as the cloud sees them.

    Raises:
        UsageError: no such runtime.
    """
    ranker = pick_runtime(runtime)(base, Adaptation())
    clip, dim = base.manifest.profile_clip, base.manifest.shape["dim"]
    with threadpool_limits(limits=1, user_api="blas"):  # why: `ossia.evaluation.protocol`
        sent = [encode_profile(make_profile(ranker.state(history), clip)) for history in histories]
    return [decode_profile(data, dim) for data in sent]


def deliver(base: Base, adaptations: Iterable[Adaptation]) -> Delivery:
    """Encode adaptations, and price them.

    Args:
        base: the base that they are for.
        adaptations: one per device.

    Returns:
        payloads and costs.

    Raises:
        UsageError: there is no adaptation.
    """
    made = [(encode_payload(base, each, issued=ISSUED, expiry=EXPIRY), price(base, each)) for each in adaptations]
    if not made:
        raise UsageError("delivery: expected at least one adaptation, got none")
    return Delivery(tuple(payload for payload, _ in made), tuple(cost for _, cost in made))


def price(base: Base, adaptation: Adaptation) -> Costs:
    """Price one adaptation on a device that holds the base, and of the table only what the adaptation leaves alone.

    Args:
        base: the base.
        adaptation: what is sent.

    Returns:
        the costs; with rows named in the payload, their bytes count as download.
    """
    nothing = Adaptation(rows=np.zeros(len(base.table), np.uint8))
    return costs(base, adaptation, on_device=WHOLE if adaptation.rows is None else nothing)


def receive(base: Base, delivery: Delivery, *, runtime: str = "numpy") -> Callable[[int], Ranker]:
    """Be the devices: verify, decode, fold.

    Args:
        base: the base on every device.
        delivery: what arrived.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.

    Returns:
        from the number of a device to its ranker; the last few are kept, so that one payload for all is folded once.
    """

    @lru_cache(maxsize=4)
    def rank_with(payload: bytes) -> Ranker:
        return unpack(base, payload, runtime=runtime)

    return lambda number: rank_with(delivery.payloads[number])


def unpack(base: Base, payload: bytes, *, runtime: str = "numpy") -> StateRanker:
    """Turn one payload into its ranker.

    Args:
        base: the base.
        payload: unsigned bytes.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.

    Returns:
        the ranker.

    Raises:
        PayloadError: the bytes are no payload for this base.
        UsageError: no such runtime.
    """
    return pick_runtime(runtime)(base, decode_payload(base, payload, allow_unsigned=True).adaptation)


def pick_runtime(name: str) -> Runtime:
    """Look a runtime up.

    Args:
        name: in `ossia.device.runtimes.RUNTIMES`.

    Returns:
        the function from base and adaptation to a ranker.

    Raises:
        UsageError: there is no such runtime.
    """
    if name not in RUNTIMES:
        raise UsageError(f"runtime: expected one of {', '.join(RUNTIMES)}, got {name!r}")
    return RUNTIMES[name]
