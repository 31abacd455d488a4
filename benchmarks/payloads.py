"""Do whole payloads rank better than the base that they are for? By the device's own path, several bases pooled.

    python benchmarks/payloads.py DATA OUT --base BASE --run RUN [--base BASE --run RUN …] --personalizer forward-ofa+ridge

Every test user's profile is answered, encoded, decoded, folded and ranked with, as `ossia evaluate` does it: rows of a user's
own payload, of the average user's for everybody, and of another user's; codes within about three bits a weight, generated
weights without a limit. Beside them the base at 8 bits, and the run that it was published from, in float32. NDCG@10 of the
full ranking; differences are paired by user. Ranks are kept in OUT, row by row, so that it goes on where it stopped.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from msgspec.json import decode, encode

from ossia.adaptation import Adaptation, Base
from ossia.backbones.ranker import TorchRanker
from ossia.data import Cases, Dataset
from ossia.evaluation import Judgement, make_row, repeat_share, target_ranks
from ossia.evaluation.controls import another_user
from ossia.evaluation.results import compare
from ossia.files import write_whole
from ossia.service.contenders import draw_cases, usual_budget
from ossia.service.generator import load_personalizer
from ossia.service.rankers import Delivery, deliver, make_profiles, receive
from ossia.training import load_run
from ossia.types import Ranker

FLOAT32, PLAIN = "the run in float32", "the base at 8 bits"
BATCH = 256


@dataclass(frozen=True)
class Trial:
    """What is judged on: test users, and how a device computes."""

    cases: Cases
    runtime: str

    def judge(self, base: Base, ranker: Ranker | Callable[[int], Ranker]) -> np.ndarray:
        """Rank for everybody."""
        return target_ranks(ranker, self.cases, len(base.table))


def main() -> None:
    """Judge what is missing, then pool and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", action="append", type=Path, required=True)
    parser.add_argument("--run", action="append", type=Path, required=True, help="of each base, in the same order")
    parser.add_argument("--personalizer", action="append", required=True)
    parser.add_argument("--cases", type=int, help="draw this many test users")
    parser.add_argument("--runtime", default="engine")
    asked = parser.parse_args()
    data = Dataset.load(asked.data)
    trial = Trial(draw_cases(data.split().test, asked.cases), asked.runtime)
    places = [asked.out / path.name for path in asked.base]
    for path, run, place in zip(asked.base, asked.run, places, strict=True):
        for row, make in rows_of(Base.load(path), run, asked.personalizer, trial):
            if not (place / f"{row}.json").exists():
                write_whole(place / f"{row}.json", encode(make().tolist()))
                print(f"{place}: {row}", flush=True)
    show(places, asked.personalizer, repeat_share(trial.cases))


def rows_of(base: Base, run: Path, names: list[str], trial: Trial) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Name the rows of a base, and say how each is judged; payloads are made when the first of their rows is."""
    nobody = np.zeros(len(trial.cases), int)
    yield FLOAT32, lambda: trial.judge(base, TorchRanker(load_run(run).backbone))
    yield PLAIN, lambda: trial.judge(base, receive(base, deliver(base, [Adaptation()]).to(nobody), runtime=trial.runtime))
    for name in names:
        sent: dict[str, Delivery] = {}

        def judge(who: str, name: str = name, sent: dict[str, Delivery] = sent) -> np.ndarray:
            if not sent:
                sent.update(payloads_of(base, name, trial))
            return trial.judge(base, receive(base, sent[who], runtime=trial.runtime))

        for who in ("own", "average", "another's"):
            yield f"{name}, {who}", lambda who=who, judge=judge: judge(who)


def payloads_of(base: Base, name: str, trial: Trial) -> dict[str, Delivery]:
    """Ask a personalizer for everybody, and say what each device gets."""
    loaded = load_personalizer(base, name)
    budget, profiles = usual_budget(loaded), make_profiles(base, trial.cases.histories, runtime=trial.runtime)
    batches = [profiles[start : start + BATCH] for start in range(0, len(profiles), BATCH)]
    own = deliver(base, chain.from_iterable(loaded.personalize_many(each, [budget] * len(each)) for each in batches))
    average = deliver(base, [loaded.personalize_nobody(budget)])
    print(f"{base.path.name}, {name}: {own.payload_bytes:.0f} bytes a payload, {own.rest_bytes:,.0f} at rest", flush=True)
    swapped = own.to(another_user(len(profiles), seed=0))
    return {"own": own, "average": average.to(np.zeros(len(profiles), int)), "another's": swapped}


def show(places: list[Path], names: list[str], repeats: float) -> None:
    """Print every row, and own payloads against the base and their controls."""

    def read(row: str) -> Judgement:
        return Judgement(row, np.stack([np.array(decode((place / f"{row}.json").read_bytes())) for place in places]), repeats)

    for row in (FLOAT32, PLAIN):
        print(f"{row}: NDCG@10 {make_row(read(row), 'base').ndcg_at_10.mean:.4f}")
    for name in names:
        own = read(f"{name}, own")
        print(f"{name}: NDCG@10 {make_row(own, 'personal').ndcg_at_10.mean:.4f}")
        others = [FLOAT32, PLAIN, f"{name}, average", f"{name}, another's"]
        for versus in map(read, others + [f"{other}, own" for other in names if other != name]):
            gap = compare(own, versus).ndcg_at_10
            share = gap.mean / make_row(versus, "control").ndcg_at_10.mean
            print(f"  − {versus.name}: {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f}), {share:+.1%}, p = {gap.p:.3f}")


if __name__ == "__main__":
    main()
