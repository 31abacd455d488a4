"""Do whole payloads rank better than the base that they are for? By the device's own path, several bases pooled.

    python benchmarks/payloads.py DATA OUT --base BASE [--base BASE …] --personalizer ridge --personalizer forward-ofa+ridge

Every test user's profile is answered, encoded, decoded, folded and ranked with, as `ossia evaluate` does it: rows of a user's
own payload, of the average user's for everybody and of another user's; codes within about three bits a weight, generated
weights without a limit, all blocks. Beside them the base at 8 bits. NDCG@10 of the full ranking; differences are paired by user.
Ranks are kept in OUT, row by row, so that it goes on where it stopped.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec.json import decode, encode

from ossia.adaptation import Base
from ossia.data import Cases, Dataset
from ossia.evaluation import Judgement, make_row, repeat_share, target_ranks
from ossia.evaluation.results import compare
from ossia.files import write_whole
from ossia.service.contenders import Contender, draw_cases, personal, uniform, usual_budget
from ossia.service.generator import load_personalizer

PLAIN = "the base at 8 bits"


def main() -> None:
    """Judge what is missing, then pool and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", action="append", type=Path, required=True)
    parser.add_argument("--personalizer", action="append", required=True)
    parser.add_argument("--cases", type=int, help="draw this many test users")
    parser.add_argument("--runtime", default="engine")
    asked = parser.parse_args()
    data = Dataset.load(asked.data)
    cases = draw_cases(data.split().test, asked.cases)
    for number, path in enumerate(asked.base):
        judge_base(Base.load(path), asked.personalizer, cases, asked.out / str(number), asked.runtime)
    show([asked.out / str(number) for number in range(len(asked.base))], asked.personalizer, repeat_share(cases))


def judge_base(base: Base, names: list[str], cases: Cases, place: Path, runtime: str) -> None:
    """Judge every row of a base that has not been judged yet."""
    for row, contender in rows_of(base, names, cases, place, runtime):
        ranks = target_ranks(contender.ranker, cases, len(base.table))
        write_whole(place / f"{row}.json", encode({"base": base.hash, "ranks": ranks.tolist()}))
        sent = "" if contender.delivery is None else f", {contender.delivery.payload_bytes:.0f} bytes"
        print(f"{place}: {row}{sent}", flush=True)


def rows_of(base: Base, names: list[str], cases: Cases, place: Path, runtime: str) -> Iterator[tuple[str, Contender]]:
    """Name the rows that are missing; a personalizer's are made together."""
    if not (place / f"{PLAIN}.json").exists():
        yield PLAIN, next(uniform(base, runtime=runtime))
    for name in names:
        if (place / f"{name}, another's.json").exists():  # the last of its three
            continue
        loaded = load_personalizer(base, name)
        made = personal(base, loaded, cases, usual_budget(loaded), runtime=runtime)
        for who, contender in zip(("own", "average", "another's"), made, strict=True):
            yield f"{name}, {who}", contender


def show(places: list[Path], names: list[str], repeats: float) -> None:
    """Print every row, and own payloads against the base and their controls."""

    def read(row: str) -> Judgement:
        found = [np.array(decode((place / f"{row}.json").read_bytes())["ranks"]) for place in places]
        return Judgement(row, np.stack(found), repeats)

    plain = read(PLAIN)
    print(f"{PLAIN}: NDCG@10 {make_row(plain, 'base').ndcg_at_10.mean:.4f}")
    for name in names:
        own, average, another = (read(f"{name}, {who}") for who in ("own", "average", "another's"))
        mean = make_row(own, "personal").ndcg_at_10.mean
        print(f"{name}: NDCG@10 {mean:.4f}, {100 * mean / make_row(plain, 'base').ndcg_at_10.mean:.1f} % of the base's")
        for versus in (plain, average, another, *(read(f"{other}, own") for other in names if other != name)):
            gap = compare(own, versus).ndcg_at_10
            print(f"  − {versus.name}: {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f}), p = {gap.p:.3f}")


if __name__ == "__main__":
    main()
