"""A thief with the online key, on the line between cloud and devices: whatever a signature can make believed, it says.

It answers asks in the cloud's place: payloads for this very device and base, in time, signed with the key that it stole, with
sequences far ahead, so that what the cloud signs looks replayed. Half of them do harm. It goes on after the operators gave out
a new list of keys; then nothing of it may be accepted any more, and the cloud must be heard again.

It has the key that signs payloads. Who has the keys of releases as well is the threat model's business, and TUF's.
"""

from collections.abc import Sequence
from random import Random

import numpy as np

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.payload import HEADER, encode_payload
from ossia.adaptation.request import Reply, decode_ask, decode_reply, encode_reply
from ossia.device.exchange import Answer, Request
from ossia.service.issue import NO_CANDIDATES
from ossia.simulation.stand_in import DIM, SIGNER

SHARE = 0.5  # of the cloud's payloads
LIFE_S = 30 * 86_400
AHEAD = 1_000


class Thief:
    """Signs what it likes.

    Args:
        bases: what devices hold.
        random: draws.
    """

    def __init__(self, bases: Sequence[Base], random: Random) -> None:
        self._bases, self._random = {base.id[:16]: base for base in bases}, random

    def forge(self, request: Request, answer: Answer, now: int) -> tuple[bytes, bool] | None:
        """Make another payload out of one that passes.

        Args:
            request: what was asked.
            answer: the cloud's.
            now: seconds since 1970.

        Returns:
            a payload, and whether it does harm; None: this one may pass.
        """
        if request.kind != "ask" or answer.status != 200 or self._random.random() > SHARE:
            return None
        _, _, _, _, _, _, _, device, sequence, _, _, _ = HEADER.unpack_from(decode_reply(answer.body).payload)
        harmful = self._random.random() < 0.5
        payload = encode_payload(
            self._bases[decode_ask(request.body, DIM).base_id],
            Adaptation(gates=np.full(2, not harmful, np.uint8)),
            issued=now,
            expiry=now + LIFE_S,
            device_id=device,
            sequence=sequence + self._random.randint(1, AHEAD),
            key_id=SIGNER.key_id,
            sign=SIGNER.sign,
        )
        return payload, harmful


def reply(payload: bytes) -> Answer:
    """Bring a payload, and nothing beside it.

    Args:
        payload: its bytes.

    Returns:
        an answer.
    """
    return Answer(200, encode_reply(Reply(payload, NO_CANDIDATES, b"")))
