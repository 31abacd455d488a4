"""The rows beside a payload: which are here, and what becomes of those that arrive.

A device keeps the rows of its newest payload, by their bytes, and says so when it asks; the service then sends what is missing.
Whole again, they are held to the digest in the new payload, which is signed. Rows that do not come out right are not kept, and
so the next ask claims nothing and is sent everything: a lie on the line, a claim that no longer holds, a table that was built
otherwise all end the same way.
"""

import hashlib

import numpy as np
from jaxtyping import UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.held_rows import decode_held, encode_held, join_rows
from ossia.adaptation.request import decode_ask
from ossia.adaptation.table import PLANES
from ossia.device.exchange import Request
from ossia.device.kept import Kept
from ossia.device.session import Session
from ossia.errors import PayloadError


def rows_claimed(session: Session, kept: Kept) -> bytes:
    """Say which rows are here.

    Args:
        session: of the device.
        kept: what the device keeps.

    Returns:
        lists for an ask; nothing where there are none.
    """
    if not kept.payloads or not kept.payloads[0].rows or session.own is None or session.own.adaptation.rows is None:
        return b""
    return encode_held(_whole(session.own.adaptation.rows, session.base))


def take_rows(base: Base, request: Request, adaptation: Adaptation, sent: bytes, kept: Kept) -> bytes | None:
    """Put the rows of a new payload together.

    Args:
        base: on the device.
        request: the ask; it says which rows were claimed.
        adaptation: of the new payload.
        sent: what came beside it.
        kept: what the device kept when it came.

    Returns:
        the rows' bytes; nothing where none were asked for or named; None where they are not what the payload vouches for.
    """
    if adaptation.rows is None:
        return b""
    try:
        ask = decode_ask(request.body, base.manifest.shape["dim"])
        if not ask.rows:
            return b""
        held, wanted = decode_held(ask.held, len(base.table)), _whole(adaptation.rows, base)
        mine = kept.payloads[0].rows if ask.held and kept.payloads else b""
        whole = join_rows(_widths(base), wanted, held, mine, sent)
    except PayloadError:
        return None
    return whole if hashlib.sha256(whole).digest() == base.table.digest_rows(adaptation.rows) else None


def _whole(codes: UInt8[np.ndarray, " some"], base: Base) -> UInt8[np.ndarray, " rows"]:
    """Give rows that came with a newer table a code as well: they are not here."""
    return np.pad(codes, (0, len(base.table) - len(codes)))


def _widths(base: Base) -> tuple[int, int, int]:
    """Say how many bytes of a row each plane has."""
    first, second, third = (base.table.planes[name].shape[1] for name in PLANES)
    return first, second, third
