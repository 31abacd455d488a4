"""Whom the guard drops: payloads of a personalizer, which it should leave alone, and harmful ones, which it should not.

    python benchmarks/device_guard.py BASE DATA [--users 200] [--clicks 20]

Each user's events but the last `clicks` are the history when a payload arrives; those are then clicked one by one. Told
is the share of users whose payload is dropped on arrival, and later. Nothing is chosen here: the guard's numbers stand in
`ossia.device.guard`.
"""

import argparse
from pathlib import Path

import numpy as np

from ossia.adaptation import Adaptation, Base, Dense, costs, encode_payload
from ossia.data import Dataset
from ossia.device.guard import Guard
from ossia.device.session import open_session
from ossia.service.personalizer import Personalizer
from ossia.types import Budget

NOW = 1_800_000_000


def noise(base, rng):
    """Add noise to one layer that drowns it."""
    slot = next(slot for slot in base.manifest.slots if "contract" in slot.name)
    return Adaptation(deltas=(Dense(slot.name, rng.normal(0, 8, (slot.channels, slot.inputs)).astype(np.float16)),))


def kinds(base, rng):
    """Name what is sent, and how it is made of a profile."""
    personalizer, whole = Personalizer.load(base, "chord"), costs(base, Adaptation()).weight_bytes
    return {
        "chord, 60 % of the weight bytes": lambda profile: personalizer.personalize(profile, Budget(weight_bytes=0.6 * whole)),
        "chord, 45 % of the weight bytes": lambda profile: personalizer.personalize(profile, Budget(weight_bytes=0.45 * whole)),
        "harmful: all gates off": lambda _profile: Adaptation(gates=np.zeros(len(base.manifest.gates), np.uint8)),
        "harmful: noise on one layer": lambda _profile: noise(base, rng),
    }


def dropped(base, events, make, clicks):
    """Say when one user's payload is dropped: 0 on arrival, 1 later, 2 never."""
    session = open_session(base, history=events[:-clicks], allow_unsigned=True, guard=Guard())
    data = encode_payload(base, make(session.profile()), issued=NOW, expiry=NOW + 1)
    session, receipt = session.receive(data, NOW)
    assert receipt.accepted, receipt.reason
    if receipt.dropped:
        return 0
    for click in events[-clicks:]:
        session = session.observe(int(click))
    return 2 if session.payloads else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=20)
    options = parser.parse_args()
    base, rng = Base.load(options.base), np.random.default_rng(0)
    long = [events for events in map(np.asarray, Dataset.load(options.data).histories) if len(events) >= 2 * options.clicks]
    users = [long[index] for index in rng.permutation(len(long))[: options.users]]
    print(f"{len(users)} users")
    for name, make in kinds(base, rng).items():
        fates = np.bincount([dropped(base, events, make, options.clicks) for events in users], minlength=3) / len(users)
        print(f"{name:32s} dropped on arrival {fates[0]:.3f}, later {fates[1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
