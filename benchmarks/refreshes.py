"""What a refresh of personal rows sends when rows that the device holds may stay, beside what it sends when the best are taken.

    python benchmarks/refreshes.py BASE DATA [--users 300] [--personalizer chord] [--share 0.02 0.05 0.1 0.25]

Users of DATA come again every two events, four times, with room for some share of the rows' bytes at 8 bits; counted is the
last time, as the service sends it. The last two events, which tests are made of, are not looked at. `sent` and `sent_staying`
are shares of the bytes of all rows that are named; `same` says how many of them are the same by both rules.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ossia.adaptation import Base, costs
from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.held_rows import missing_rows
from ossia.data import Dataset
from ossia.device.session import open_session
from ossia.service.personalizer import Personalizer
from ossia.types import Budget

APART, TIMES, HIDDEN = 2, 4, 2


def profiles(base, history):
    """What the user would send every two events, oldest first."""
    longest, seen = base.manifest.shape["length"], history[: len(history) - HIDDEN]
    ends = [len(seen) - APART * ago for ago in reversed(range(TIMES))]
    return [open_session(base, bytes(16), history=seen[max(0, end - longest) : end]).profile() for end in ends]


def refresh(personalizer, plan, asked):
    """Bytes of the last refresh: all rows, what is missing, what is missing where rows may stay; and the rows' overlap."""
    table, held = personalizer.base.table, (None, None)
    for profile in asked:
        before = held
        held = tuple(personalizer.allocate_many([profile], [plan], [mine])[0].rows for mine in (None, held[1]))
    sent = [len(missing_rows(table, now, then)) for now, then in zip(held, before, strict=True)]
    return len(table.row_bytes(held[0])), *sent, ((held[0] > 0) & (held[1] > 0)).sum() / (held[0] > 0).sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--personalizer", default="chord")
    parser.add_argument("--share", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.25])
    asked = parser.parse_args()
    base, histories = Base.load(asked.base), Dataset.load(asked.data).histories
    personalizer = Personalizer.load(base, asked.personalizer)
    long = np.flatnonzero(np.diff(histories.offsets) > HIDDEN + APART * TIMES + 2)
    users = np.random.default_rng(0).choice(long, min(asked.users, len(long)), replace=False)
    told = [profiles(base, histories.items[histories.offsets[user] : histories.offsets[user + 1]]) for user in users]
    whole = costs(base, personalizer.personalize_nobody(Budget())).table_bytes
    floor = costs(base, Adaptation(rows=np.zeros(len(base.table), np.uint8))).table_bytes
    for share in asked.share:
        plan = personalizer.plan(Budget(table_bytes=floor + share * (whole - floor)), signed=True)
        everything, sent, staying, same = np.mean([refresh(personalizer, plan, mine) for mine in told], axis=0).tolist()
        row = {
            "share": share,
            "bytes": everything,
            "sent": sent / everything,
            "sent_staying": staying / everything,
            "same": same,
        }
        print(json.dumps({name: round(value, 3) for name, value in row.items()}))


if __name__ == "__main__":
    main()
