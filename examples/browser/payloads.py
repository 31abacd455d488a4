"""What the cloud does for this page: a profile comes in, a payload goes out. A stand-in for the service."""

import time
from pathlib import Path

from ossia.adaptation import Base, encode_payload
from ossia.service.personalizer import Personalizer
from ossia.types import Budget, Profile

BUDGET = Budget(weight_bytes=80_000)  # at rest; a browser has room for the whole table
A_MONTH = 30 * 86_400


class Payloads:
    """Answers profiles with payloads of one base, for any device, unsigned."""

    def __init__(self, base: Path) -> None:
        self.base = Base.load(base)
        self._personalizer = Personalizer.load(self.base, "chord")
        self._sequence = 0

    def answer(self, profile: Profile) -> bytes:
        """Make one user's payload."""
        now = int(time.time())
        self._sequence += 1
        adaptation = self._personalizer.personalize(profile, BUDGET)
        return encode_payload(
            self.base, adaptation, device_id=bytes(16), sequence=self._sequence, issued=now, expiry=now + A_MONTH
        )
