"""What stands in for a model's arithmetic, which is not what a fleet is simulated for: everything else is the real thing.

    catalog    a ring of some dozen items; a user mostly clicks the next one
    base       ranks by the distance along the ring from the last click: a good guess
    payload    moves what is far away a little, by its codes; a harmful one, with its gates off, turns the ranking around

The bases are published, loaded and named as all are, the payloads are encoded, decoded, folded into nothing, and signed with a
fast hash instead of Ed25519. Ids begin with `CANARY`, to be looked for wherever they must not be.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
from jaxtyping import Float32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import Plan
from ossia.adaptation.base import Base, write_base
from ossia.adaptation.payload import Header
from ossia.device.runtimes import StateRanker
from ossia.errors import PayloadError
from ossia.service.answerer import RowCodes
from ossia.service.keychain import LATEST, Signer
from ossia.service.personalizer import Personalizer
from ossia.types import Candidates, History, Profile, Slot

CANARY = "~item-"
DIM = 4
LEAST_ITEMS = 32
SECRETS = {7: b"the cloud's own key", 8: b"the key that came after a theft"}


def make_base(folder: Path, items: int) -> Base:
    """Publish a tiny base.

    Args:
        folder: where, new.
        items: of its catalog; bases of different sizes have different ids.

    Returns:
        the base.
    """
    rng = np.random.default_rng(items)
    shapes = [("query", DIM, DIM), ("key", DIM, DIM), ("value", DIM, DIM), ("output", DIM, DIM), ("expand", DIM, DIM)]
    shapes.append(("contract", DIM, DIM))
    slots = [Slot(f"blocks.0.{name}", channels, inputs, _gate(name)) for name, channels, inputs in shapes]
    weights = {f"{slot.name}.weight": _normal(rng, slot.channels, slot.inputs) for slot in slots}
    weights |= {f"{slot.name}.bias": _normal(rng, slot.channels) for slot in slots} | {"positions.weight": _normal(rng, 6, DIM)}
    for norm in ("norm", "blocks.0.attention_norm", "blocks.0.feed_forward_norm"):
        weights |= {f"{norm}.weight": _normal(rng, DIM), f"{norm}.bias": _normal(rng, DIM)}
    return write_base(
        folder,
        backbone="sasrec",
        shape={"items": items, "dim": DIM, "length": 6, "blocks": 1, "heads": 1, "hidden": DIM},
        slots=slots,
        gates=["blocks.0.attention", "blocks.0.feed_forward"],
        weights=weights,
        profile_clip=3.0,
        item_vectors=_normal(rng, items, DIM),
        item_ids=[f"{CANARY}{row:02d}~" for row in range(items)],
        item_counts=np.arange(items, 0, -1).astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class RingRanker:
    """Ranks along the ring.

    Attributes:
        table: scores of every item, by the last click; the last row is for nobody's history.
        states: a user state by the last click.
    """

    table: Float32[np.ndarray, "clicks items"]
    states: Float32[np.ndarray, "clicks dim"]

    def state(self, history: History) -> Float32[np.ndarray, " dim"]:
        """Return a state.

        Args:
            history: oldest first.

        Returns:
            by the last click; zeros without one.
        """
        return self.states[history[-1] if len(history) else -1]

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score by the last click.

        Args:
            history: oldest first.
            candidates: known items.

        Returns:
            scores.
        """
        return self.table[history[-1] if len(history) else -1][candidates.items]


def ring_runtime(base: Base, adaptation: Adaptation) -> StateRanker:
    """Be the runtime of a simulated device.

    Args:
        base: one of ours.
        adaptation: a payload's.

    Returns:
        its ranker.
    """
    harmful = adaptation.gates is not None and not adaptation.gates.any()
    return _ring(len(base.table), b"" if adaptation.codes is None else adaptation.codes.tobytes(), harmful)


class StandIn(Personalizer):
    """A personalizer that knows the ring, and gives codes and some rows by the profile; plans and prices are the real ones.

    Args:
        base: one of ours.
    """

    def __init__(self, base: Base) -> None:
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "manifest", SimpleNamespace(alphabet=(2, 4, 8)))
        self.harmful = False

    def allocate_many(
        self, profiles: Sequence[Profile], plans: Sequence[Plan], held: Sequence[RowCodes | None] | None = None
    ) -> list[Adaptation]:
        """Give codes by profile; a bad release gives what turns rankings around.

        Args:
            profiles: of the users.
            plans: of their budgets.
            held: of no account here: rows are drawn.

        Returns:
            an adaptation each.
        """
        assert len(profiles) == len(plans)
        assert held is None or len(held) == len(plans)
        return [self._adapt(profile) for profile in profiles]

    def _adapt(self, profile: Profile) -> Adaptation:
        """Draw codes from a profile's digest."""
        digest = hashlib.sha512(profile.values.tobytes()).digest()
        codes = np.frombuffer(digest[: self.base.channels], np.uint8) % 3 + 1
        rows = np.frombuffer(digest[: len(self.base.table)], np.uint8) % 4 if digest[-1] % 2 else None
        return Adaptation(gates=np.full(2, not self.harmful, np.uint8), codes=codes.astype(np.uint8), rows=rows)


def _signer(key_id: int) -> Signer:
    """Make what signs with a key."""
    return Signer(key_id, LATEST, lambda message: hmac.digest(SECRETS[key_id], message, "sha512"))


SIGNER, NEXT_SIGNER = _signer(7), _signer(8)


@dataclass(frozen=True)
class KeyList:
    """A list of keys, as devices have it: judges signatures.

    Attributes:
        key_id: the one key that is on it.
    """

    key_id: int

    def __call__(self, header: Header, message: bytes, signature: bytes) -> None:
        """Judge a signature, as a device does.

        Args:
            header: names the key.
            message: what was signed.
            signature: 64 bytes.

        Raises:
            PayloadError: it is another's.
        """
        if header.key_id != self.key_id:
            raise PayloadError("signature: expected one of a trusted key, got another", "unknown_key")
        if not hmac.compare_digest(signature, hmac.digest(SECRETS[self.key_id], message, "sha512")):
            raise PayloadError("signature: expected one that holds, got another", "forged")


def next_item(last: str, random: Random) -> str:
    """Draw what a user clicks: nearly always the next one on the ring.

    Args:
        last: the click before; empty: none.
        random: draws.

    Returns:
        an id that every base knows.
    """
    place = int(last[len(CANARY) : -1]) if last else random.randrange(LEAST_ITEMS)
    step = 1 if random.random() < 0.95 else random.randrange(LEAST_ITEMS)
    return f"{CANARY}{(place + step) % LEAST_ITEMS:02d}~"


@lru_cache(maxsize=4096)
def _ring(items: int, codes: bytes, harmful: bool) -> RingRanker:
    """Make the scores of a version: near is good, and what is beyond the nearest third moves by the codes."""
    place = np.arange(items)
    distance = ((place[None] - place[:, None] - 1) % items).astype(np.float32)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(codes).digest()[:8], "little"))
    moved = np.where(distance > items / 3, rng.uniform(0, 4, items).astype(np.float32), 0) if codes else 0
    near = -(distance + moved)
    scores = np.vstack([-near if harmful else near, -place.astype(np.float32)]).astype(np.float32)
    states = np.random.default_rng(items).uniform(-2, 2, (items + 1, DIM)).astype(np.float32)
    states[-1] = 0
    return RingRanker(scores, states)


def _gate(part: str) -> str:
    """Name the gate of a slot."""
    return "blocks.0.feed_forward" if part in ("expand", "contract") else "blocks.0.attention"


def _normal(rng: np.random.Generator, *shape: int) -> Float32[np.ndarray, "..."]:
    """Draw weights."""
    return rng.standard_normal(shape).astype(np.float32)
