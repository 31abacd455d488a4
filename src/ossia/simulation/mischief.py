"""Who stands on the line: replays, misdelivers, changes and cuts replies. Devices must refuse all of it."""

from dataclasses import replace
from random import Random

from ossia.adaptation.request import REPLY
from ossia.device.exchange import Answer, Request

SHARE = 0.05  # of replies


class Mischief:
    """Remembers what passed, and gives it to whom it is not for.

    Args:
        random: draws.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last: Answer | None = None
        self._own: dict[int, Answer] = {}

    def tamper(self, phone: int, request: Request, answer: Answer) -> Answer:
        """Pass a reply on, or another one.

        Args:
            phone: who asked.
            request: what.
            answer: the true one.

        Returns:
            what arrives.
        """
        if request.kind != "ask" or answer.status != 200:
            return answer
        others, mine = self._last, self._own.get(phone)
        self._last = self._own[phone] = answer
        if self._random.random() > SHARE:
            return answer
        return self._random.choice([each for each in (others, mine, self._flip(answer), self._cut(answer)) if each is not None])

    def _flip(self, answer: Answer) -> Answer:
        """Change one byte of the payload."""
        place = self._random.randrange(REPLY.size, len(answer.body))
        body = bytearray(answer.body)
        body[place] ^= self._random.randint(1, 255)
        return replace(answer, body=bytes(body))

    def _cut(self, answer: Answer) -> Answer:
        """Leave the end away."""
        return replace(answer, body=answer.body[: self._random.randrange(len(answer.body))])
