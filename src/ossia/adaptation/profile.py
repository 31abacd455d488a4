"""The profile: what leaves the device. A vector, never the history.

It is the base's own user state for the history, computed on the device with the identity adaptation, clipped to the base's
`profile_clip`, and sent as int8 values and one float32 scale: 68 bytes for 64 values. A user without history sends zeros.
"""

import math
import struct

import numpy as np
from jaxtyping import Float32

from ossia.errors import PayloadError
from ossia.quantization.grid import quantize_rows
from ossia.types import Profile


def make_profile(state: Float32[np.ndarray, " dim"], clip: float) -> Profile:
    """Clip and quantize a user state: s = max|x| / 127, q = round-half-away(x / s).

    Args:
        state: the base's user state for the whole history.
        clip: the base's `profile_clip`.

    Returns:
        the profile.

    Example:
        >>> make_profile(np.array([9.0, -2.0], np.float32), clip=4.0).values
        array([127, -64], dtype=int8)
    """
    panel = quantize_rows(np.clip(state, np.float32(-clip), np.float32(clip))[None])
    return Profile(panel.values[0], np.float32(panel.scale[0]))


def encode_profile(profile: Profile) -> bytes:
    """Write a profile as bytes: the int8 values, then the scale as little-endian float32.

    Args:
        profile: what to send.

    Returns:
        dim + 4 bytes.
    """
    return profile.values.tobytes() + np.array(profile.scale, "<f4").tobytes()


def decode_profile(data: bytes, dim: int) -> Profile:
    """Read a profile that another machine sent.

    Args:
        data: exactly dim + 4 bytes.
        dim: values that the base's profile has.

    Returns:
        the profile.

    Raises:
        PayloadError: the length is wrong, a value is −128, or the scale is not a finite number ≥ 0.
    """
    if len(data) != dim + 4:
        raise PayloadError(f"profile: expected {dim + 4} bytes for {dim} values, got {len(data):,}")
    (scale,) = struct.unpack_from("<f", data, dim)
    if not 0 <= scale < math.inf or data[-1] & 0x80:  # the top bit is the sign, and −0 would be a second spelling of 0
        raise PayloadError(f"profile: expected a finite scale ≥ 0, got {scale}")
    if b"\x80" in data[:dim]:
        raise PayloadError("profile: expected values −127 … 127, got −128")
    return Profile(np.frombuffer(data, np.int8, dim), np.float32(scale))
