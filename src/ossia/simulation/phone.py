"""A simulated device: the real `Device`, `Resident` and `Home`, on a virtual disk, with a clock that may be wrong.

Its ledger is asked after every event, and what is under way when the power goes is in doubt (`peril.py`).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from ossia.adaptation.base import Base
from ossia.adaptation.enrolment import device_of
from ossia.adaptation.request import decode_reply
from ossia.device.exchange import Answer, Request
from ossia.device.following import News, adopt
from ossia.device.home import FILE, Home, Keeper
from ossia.device.kept import new_kept
from ossia.device.policy import DAY_S, Policy
from ossia.device.resident import Resident, open_resident
from ossia.device.run import Device, Heard
from ossia.device.settings import Settings
from ossia.device.shown import Shown
from ossia.errors import PayloadError
from ossia.simulation.disk import PowerCut, VirtualDisk
from ossia.simulation.laws import TOP, LawBroken, Ledger, check_disclosed
from ossia.simulation.peril import Doubt, Peril
from ossia.simulation.stand_in import CANARY, SIGNER, KeyList, next_item, ring_runtime

if TYPE_CHECKING:
    from ossia.simulation.world import World

FOLDER: Final = Path("/device")
ITEMS: Final = [f"{CANARY}{place:02d}~" for place in range(8)]
CLICK_S: Final = DAY_S / 3
WAKE_S: Final = 3_400
"""A real device looks at its clock every half minute; here it is looked at when a wait ends, and about every hour."""
LOOK_S: Final = 4 * 3_600
REBOOT_S: Final = 3 * DAY_S
BOOT_S: Final = 60


class Phone:
    """One device and its user.

    Args:
        index: its number.
        world: where it lives.
        policy: when it asks.
    """

    def __init__(self, index: int, world: "World", policy: Policy) -> None:
        self.index, self._world = index, world
        self._random = Random(world.random.random())
        self._disk = VirtualDisk(self._random)
        self._peril = Peril(self._disk, self._random)
        self._home = Home(FOLDER, self._disk)
        self.keys = keys = KeyList(SIGNER.key_id)
        self._settings = Settings(
            policy=policy, runtime=ring_runtime, verify=keys, look_s=LOOK_S, tells=index % 2 == 0, rows=index % 4 != 1
        )
        self.secret, self.release = self._random.randbytes(32), 1
        self._device: Device | None = None
        self._base: Base | None = world.bases[0]
        self._wrong, self._changed, self._ranking, self._last = 0.0, 0.0, False, ""
        self.reachable, self.boot, self.expected, self._tried = True, 0, 0.0, 0.0
        kept = new_kept(self._random.randbytes(32))
        self.device = device_of(kept.public)
        self._ledger = Ledger(self.device)
        self._home.commit(kept)

    def begin(self, when: float) -> None:
        """Begin to live.

        Args:
            when: of the first click.
        """
        self._world.at(when, "boot", self.start)
        self._world.at(when + 1, "click", self.click)
        self._world.at(when + self._random.uniform(0, WAKE_S), "wake", self.wake)
        self._world.at(when + self._random.expovariate(1 / REBOOT_S), "reboot", self.reboot)

    def start(self) -> str:
        """Start the machine: what was acknowledged must be there.

        Returns:
            what ranks now.
        """
        kept = self._home.load()
        if kept is None:
            raise LawBroken("kept", "expected a session on the disk, found none")
        self._ledger.check_reborn(kept, self._peril.doubts, self._signed)
        self._peril.settle()
        self._changed = self._world.now
        resident = open_resident(adopt(kept, self.release), self._base, self._settings)
        self._device = Device(Keeper(self._home, resident), self, self, top=TOP, clock=self._clock, random=self._random)
        self._ledger.check_release(resident)
        self._ledger.believe(self.keys.key_id)
        if self._base is not None:
            self._ledger.move(self._base.id)
        self._ledger.check_held(resident)
        self._world.at(self._world.now + 1, "look", self._look)
        return self._shown(resident).by

    def click(self, *, again: bool = True) -> str:
        """Meet an item, and want a ranking.

        Args:
            again: whether there is a next click, some day.

        Returns:
            what ranked.
        """
        if again:
            self._world.at(self._world.now + self._random.expovariate(1 / CLICK_S), "click", self.click)
        if self._device is None:
            return "off"
        item = next_item(self._last, self._random)
        self._peril.arm(Doubt(click=item))
        self._ranking = True
        try:
            ranked = self._device.click(item)
        except PowerCut:
            return self._cut()
        finally:
            self._ranking = False
        self._peril.disarm(refused=bool(ranked.fault) or not ranked.known)
        self._ledger.check_ranked(ranked, self._device.resident, int(self._clock()))
        self._last = self._ledger.history[-1] if self._ledger.history else ""
        return f"{ranked.shown.by} {ranked.shown.ids[0]} {self._look()}"

    def wake(self) -> str:
        """Look at the clock, and again within the hour.

        Returns:
            what came of it.
        """
        self._world.at(self._world.now + WAKE_S, "wake", self.wake)
        return self._look()

    def send(self, request: Request) -> None:
        """Carry a request away; be the device's carrier.

        Args:
            request: what leaves.

        Raises:
            LawBroken: it must not.
        """
        if request.kind == "report" and not self._settings.tells:
            raise LawBroken("disclosed", "expected no report without consent")
        if self._ranking:
            raise LawBroken("answered", "expected nothing to be sent while a ranking is waited for")
        assert self._device is not None
        check_disclosed(request, self._device.resident, self._disk.certain(FOLDER / FILE), CANARY, int(self._clock()))
        self._tried = self._world.now
        self._world.send(self, request)

    def hear(self, request: Request, answer: Answer) -> str:
        """Hear an answer; only what is accepted may change the ranking.

        Args:
            request: what was asked.
            answer: what came.

        Returns:
            what came of it.
        """
        if self._device is None:
            return "off"
        payload, before = _payload_of(answer), self._device.resident
        self._peril.arm(Doubt(payload=payload))
        try:
            told = self._device.hear(Heard(request, answer))
        except PowerCut:
            return self._cut()
        self._peril.disarm(refused=isinstance(told, str))
        taken = not isinstance(told, str) and told.accepted and request.kind == "ask"
        if taken:
            base = b"" if before.session is None else before.session.base.id  # a newer one may be on the disk, and not in force
            self._ledger.check_accepted(payload, self._signed, base, int(self._clock()))
            self._ledger.check_rows(self._device.resident)
        elif self._moved(before):
            raise LawBroken("unmoved", f"expected the ranking to stay as it was after {told}")
        self._ledger.check_held(self._device.resident)
        return f"{'taken' if taken else told} {self._look()}"

    def reboot(self) -> str:
        """Lose the power.

        Returns:
            what came of it.
        """
        self._world.at(self._world.now + self._random.expovariate(1 / REBOOT_S), "reboot", self.reboot)
        return "off" if self._device is None else self._cut()

    def fetch(self, held: int) -> None:
        """Look for a release; be the device's follower.

        Args:
            held: the release whose base is in memory; 0: none.

        Raises:
            LawBroken: it must not.
        """
        if self._ranking:
            raise LawBroken("answered", "expected no look while a ranking is waited for")
        self._world.fetch(self, held)

    def come(self, news: News) -> str:
        """Get what a look brought: on the disk first, then in force.

        Args:
            news: what it brought.

        Returns:
            what came of it.
        """
        if self._device is None:
            return "off"
        if news.base is not None:
            self.release, self._base, self._changed = news.release, news.base, self._world.now
        if news.verify is not None:
            self.keys = self._world.cloud.keys
            self._settings = replace(self._settings, verify=news.verify)
        before = self._device.resident
        self._peril.arm(Doubt())
        try:
            told = ",".join(self._device.take(news))
        except PowerCut:
            return self._cut()
        self._peril.disarm(refused="disk" in told)
        after = self._device.resident
        if after.session is not before.session and after.session is not None:
            self._ledger.move(after.session.base.id)
        if after.settings.verify == self.keys:  # else the disk refused, and the list is in force with the next news
            self._ledger.believe(self.keys.key_id)
        self._ledger.check_held(after)
        self._ledger.check_release(after)
        return f"{news.release} {told} {self._look()}"

    def damage(self) -> str:
        """Lose the base that was there; the app starts again, is clicked on, and fetches it.

        Returns:
            what ranks now.
        """
        self._base = None
        self._world.at(self._world.now + 1, "click", partial(self.click, again=False))
        if self._device is None:
            return "off"
        self.boot += 1
        return self.start()

    def set_clock(self, wrong: float) -> str:
        """Set the clock.

        Args:
            wrong: seconds by which it is ahead.

        Returns:
            what came of it.
        """
        self._wrong, self._changed = wrong, self._world.now
        return self._look()

    def set_reachable(self, reachable: bool) -> str:
        """Cut the device off, or bring it back.

        Args:
            reachable: whether it is.

        Returns:
            nothing.
        """
        self.reachable, self._changed = reachable, self._world.now
        return ""

    @property
    def waits(self) -> bool:
        """Whether asks of it brought nothing lately, and it would ask again."""
        if self._device is None or not self.reachable or not self._device.resident.kept.asking.failures:
            return False
        return self._device.resident.wants(int(self._clock()))

    @property
    def is_late(self) -> bool:
        """Whether it was expected to try again, had no reason not to, and did not."""
        if not self.expected or self._device is None or self._changed > self.expected or self._wrong:
            return False
        return self.reachable and self._tried < self.expected

    def is_behind(self, newest: int, keys: KeyList) -> bool:
        """Tell whether it has an older release, or believes other keys, though nothing kept it.

        Args:
            newest: the release that everybody may have.
            keys: the list that is given out.

        Returns:
            whether it has.
        """
        if self._device is None or self._wrong or not self.reachable:
            return False
        resident = self._device.resident
        return resident.kept.following.release < newest or resident.settings.verify != keys

    def starved(self, limit_s: int) -> bool:
        """Tell whether it was not served for too long, though nothing kept it.

        Args:
            limit_s: how long is too long.

        Returns:
            whether it was.
        """
        if self._device is None or self._wrong or not self.reachable or self._base is None:
            return False
        served = self._device.resident.kept.asking.served
        return served is None or not 0 <= self._world.now - served < limit_s

    @property
    def _signed(self) -> dict[bytes, bool]:
        """What the cloud ever signed for it."""
        return self._world.cloud.issued.get(self._ledger.device, {})

    def _look(self) -> str:
        """Ask, if it is time to."""
        if self._device is None:
            return "off"
        self._peril.arm(Doubt())
        try:
            told = list(self._device.wake())
        except PowerCut:
            return self._cut()
        self._peril.disarm(refused=True)  # it may have written nothing at all
        if told:
            self._world.at(self._world.now + 30, "look", self._look)
        self._retry()
        return ",".join(told)

    def _retry(self) -> None:
        """Look at the clock when the wait is over."""
        assert self._device is not None
        left = self._device.resident.kept.asking.not_before - self._clock()
        if 0.0 < left <= 2 * self._settings.backoff.cap_s:
            self._world.at(self._world.now + left + 0.5, "look", partial(self._look_of, self.boot, self._device.resident))

    def _look_of(self, boot: int, resident: Resident) -> str:
        """Look at the clock, unless the wait was another one's."""
        same = self._device is not None and self.boot == boot and self._device.resident.kept.asking == resident.kept.asking
        return self._look() if same else ""

    def _cut(self) -> str:
        """Lose the power, and start again in a minute."""
        self._device, self._changed = None, self._world.now
        self.boot += 1
        self._disk.crash()
        self._world.at(self._world.now + BOOT_S, "boot", self.start)
        return "cut"

    def _clock(self) -> float:
        """Tell the time, as the device sees it."""
        return self._world.now + self._wrong

    def _moved(self, before: Resident) -> bool:
        """Tell whether the ranking is another one; the very same session ranks the same."""
        assert self._device is not None
        after = self._device.resident
        return after.session is not before.session and self._shown(after) != self._shown(before)

    def _shown(self, resident: Resident) -> Shown:
        """Rank a few items."""
        return resident.rank(ITEMS, len(ITEMS), int(self._clock()))


def _payload_of(answer: Answer) -> bytes:
    """Take the payload out of an answer; nothing where there is none."""
    try:
        return decode_reply(answer.body).payload
    except PayloadError:
        return b""
