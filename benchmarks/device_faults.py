"""What a device keeps, under every cut, every failing call, and kill −9 in the middle of it; with what should fail beside it.

    python benchmarks/device_faults.py [--seeds 60] [--kills 1000]

Prints one line each: how many cuts, torn states and lost acknowledgments. The controls, a store that does not flush and a
writer that writes in place, must tear; if they do not, the trial proves nothing.
"""

import argparse
import tempfile
from pathlib import Path

import msgspec

from ossia.device.home import Home
from ossia.device.kept import Exchange, Kept, KeptPayload, new_kept
from ossia.simulation.cuts import cut_everywhere
from ossia.simulation.disk import VirtualDisk
from ossia.simulation.kills import kill_often, write_naively


class NoFlush(VirtualDisk):
    """A store that trusts in the operating system."""

    def flush(self, descriptor: int) -> None:  # noqa: ARG002
        """Do not flush."""
        self._step()


def lives(states: int) -> list[Kept]:
    kept = [new_kept(bytes(32))]
    for number in range(1, states):
        kept.append(
            msgspec.structs.replace(
                kept[-1],
                history=(*kept[-1].history, f"item-{number}")[-50:],
                payloads=(KeptPayload(bytes([number % 256]) * 432), *kept[-1].payloads)[:2],
                counts={0: number},
                log=kept[-1].log + Exchange(number, "ask", 120).pack(),
            )
        )
    return kept


def commit(folder: Path, kept: Kept) -> None:
    Home(folder).commit(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--kills", type=int, default=1000)
    options = parser.parse_args()
    print("cuts and failing calls:", cut_everywhere(lives(12), range(options.seeds)), flush=True)
    print("control, not flushed:  ", cut_everywhere(lives(12), range(3), NoFlush), flush=True)
    for name, write in (("kill −9 while keeping:  ", commit), ("control, in place:     ", write_naively)):
        with tempfile.TemporaryDirectory() as folder:
            print(name, kill_often(Path(folder), lives(300), write, kills=options.kills), flush=True)


if __name__ == "__main__":
    main()
