"""A release that goes wrong is halted by those who have it, without a person who watches.

    device     POST /v1/guard {"release": 7, "worse": true}     once a release, by its token: it ranks worse, or fails
    service    of the devices that reported on the release on its way, surely more than 5 % complain   →   halted
    operator   publishes the next one

What a device means by worse is its own: its guard dropped payloads because they ranked its user's own last clicks below what
the base did, or the new base did not load. Each device has one voice a release, and the last one counts; the rule is
`ossia.adaptation.releases.must_halt`. Who enrolls many devices can halt a release, and start none: the safe side.

The same thread renews the timestamp, so that a service with the online key keeps its repository believed. Keys that are offline
are never asked for here.
"""

from dataclasses import dataclass
from pathlib import Path

from ossia.adaptation.releases import must_halt
from ossia.errors import UsageError
from ossia.service.edition import Edition, after, read_edition
from ossia.service.release_keys import Keyring
from ossia.service.repository import halt, refresh

RENEW_EVERY_S = 3_600
RENEW_DAYS = 2.0  # of the three that a timestamp lives; the last one is for whoever mends the service


@dataclass(frozen=True, eq=False)
class Guard:
    """Watches one repository.

    Attributes:
        repo: its folder.
        keys: the online key; without it the service serves the repository, counts, and leaves the rest to an operator.
        most: the share of complaints that is borne.
    """

    repo: Path
    keys: Keyring
    most: float = 0.05

    def check(self, release: int) -> None:
        """Refuse reports on what nobody has.

        Args:
            release: its number.

        Raises:
            UsageError: the repository has no such release.
        """
        releases = self.edition().releases
        if release not in releases:
            raise UsageError(f"release: expected one of {', '.join(map(str, releases)) or 'none'}, got {release}")

    def judge(self, release: int, reports: int, worse: int, now: int) -> bool:
        """Halt a release if its devices say so.

        Args:
            release: its number.
            reports: devices that reported on it.
            worse: of these, those that complain.
            now: seconds since 1970.

        Returns:
            whether it was halted just now.
        """
        if not must_halt(reports, worse, most=self.most) or not self.keys.of("online"):
            return False
        rollout = self.edition().rollout
        if release != rollout.next or release == rollout.settled or release in rollout.halted:
            return False
        halt(self.repo, self.keys, now)
        return True

    def renew(self, now: int) -> bool:
        """Renew the timestamp if it is time.

        Args:
            now: seconds since 1970.

        Returns:
            whether it was.
        """
        if not self.keys.of("online") or self.edition().timestamp.expires > after(now, RENEW_DAYS):
            return False
        refresh(self.repo, self.keys, now)
        return True

    def edition(self) -> Edition:
        """Read what the repository says now.

        Returns:
            the edition.
        """
        return read_edition(self.repo)
