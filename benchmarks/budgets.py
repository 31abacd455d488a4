"""Budgets at work: what a batch of requests costs in time, whether any budget of many is exceeded, and how full they are.

    python benchmarks/budgets.py speed BASE                      µs a user: network, allocation, packing; batch of 64
    python benchmarks/budgets.py twins BASE                      codes from ONNX against codes from torch
    python benchmarks/budgets.py limits BASE --cases 100000      random budgets of all four kinds: none may be exceeded

Networks have random weights: what a request costs does not depend on them.

Timings are of the processor's time of this process, the best of many rounds: other work on the machine is not counted, except
for what it pushes out of the caches. The short form of `limits` is `tests/property/test_budgets.py`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from ossia.adaptation import Adaptation, Base, CostTable, Device, Importance, allocate, costs, encode_payload
from ossia.adaptation.allocate import LIMITS
from ossia.adaptation.allocate_codes import CodeAllocator
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.errors import BudgetError
from ossia.personalizers import PERSONALIZERS, AbstractPersonalizer, weights_at
from ossia.service.contenders import three_bits
from ossia.service.personalizer import Personalizer
from ossia.training.export import export_onnx
from ossia.training.personalizer import PersonalizerRecipe, make_personalizer
from ossia.types import Budget, Profile

USERS, ROUNDS = 64, 30


def main() -> None:
    """Read what is wanted, and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("speed", "twins", "limits"))
    parser.add_argument("base", type=Path)
    parser.add_argument("--cases", type=int, default=100_000)
    asked = parser.parse_args()
    base = Base.load(asked.base)
    if asked.what == "speed":
        for name in PERSONALIZERS:
            speed(base, name)
    elif asked.what == "twins":
        twins(base)
    else:
        limits(base, asked.cases)


def speed(base: Base, name: str) -> None:
    """Time one batch, part by part."""
    personalizer, profiles = imagine(base, name)[0], draw_profiles(base)
    budgets = [three_bits(base)] * USERS
    allocator = CodeAllocator.of(base, personalizer.manifest.alphabet)
    importance = personalizer.channel_importance(profiles)
    made = personalizer.personalize_many(profiles, budgets)
    parts: dict[str, Callable[[], object]] = {
        "network": lambda: personalizer.channel_importance(profiles),
        "allocation": lambda: allocator.allocate(importance, budgets),
        "packing": lambda: [encode_payload(base, each, issued=0, expiry=1) for each in made],
        "all, as served": lambda: [
            encode_payload(base, each, issued=0, expiry=1) for each in personalizer.personalize_many(profiles, budgets)
        ],
    }
    for part, work in parts.items():
        print(
            f"{name} {part:16s} {1e6 * best_seconds(work) / USERS:7.1f} µs a user, {base.channels:,} channels, batch of {USERS}"
        )


def twins(base: Base) -> None:
    """Compare codes at the usual budget."""
    profiles = draw_profiles(base, 1024)
    states = torch.from_numpy(np.stack([profile.state for profile in profiles]))
    allocator, budgets = CodeAllocator.of(base, (2, 4, 8)), [three_bits(base)] * len(profiles)
    for name in PERSONALIZERS:
        served, made = imagine(base, name)
        with torch.no_grad():
            found = [made.importance(states).numpy(), served.channel_importance(profiles)]
        codes = [np.stack([each.codes for each in allocator.allocate(one, budgets)]) for one in found]
        print(f"{name}: {(codes[0] == codes[1]).mean():.6%} of {codes[0].size:,} codes are equal")


def imagine(base: Base, name: str) -> tuple[Personalizer, AbstractPersonalizer]:
    """Make a personalizer of random weights, as it is served and in torch."""
    weights = {slot: every[-1] for slot, every in weights_at(base, (2, 4, 8)).items()}
    made, dim = make_personalizer(base, PersonalizerRecipe(personalizer=name), weights), base.manifest.shape["dim"]
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        export_onnx(made, {"profiles": dim}, "importance"), options, providers=["CPUExecutionProvider"]
    )
    manifest = PersonalizerManifest(
        method=name, base=base.id.hex(), profile_dim=dim, channels=base.channels, alphabet=(2, 4, 8), beta=0.0,
        temperature=1.0, recipe={}, data="", versions={}, validation={}, files={},
    )  # fmt: skip
    return Personalizer(base, manifest, Importance(), session), made


def limits(base: Base, cases: int) -> None:
    """Draw budgets of all four kinds, on devices that hold everything, the base or nothing."""
    rng = np.random.default_rng(0)
    table = CostTable("imagined", "numpy", 100.0, dict.fromkeys(base.manifest.gates, 40.0), 0.01)
    holds = (Adaptation(), None, Adaptation(rows=np.zeros(len(base.table), np.uint8)))
    met, over, fullest = 0, 0, []
    for _ in range(cases):
        device = Device(holds[rng.integers(3)], table)
        top = costs(base, Adaptation(), on_device=device.holds, cost_table=table)
        asked = {name: float(rng.uniform(0, 1.1)) * (getattr(top, name) or 0) + 1 for name in LIMITS}
        importance = Importance(
            rng.exponential(size=base.channels) ** rng.uniform(0, 4), rng.exponential(size=len(base.table)) ** rng.uniform(0, 6)
        )
        try:
            found = allocate(base, importance, Budget(**asked), device=device)
        except BudgetError:
            continue
        spent = costs(base, found, on_device=device.holds, cost_table=table)
        shares = [(getattr(spent, name) or 0) / asked[name] for name in LIMITS]
        met, over = met + 1, over + (max(shares) > 1)
        if found.codes is not None or found.rows is not None:
            fullest.append(max(shares))
    print(f"{cases:,} budgets of {len(LIMITS)} limits, {met:,} can be met, {over:,} are exceeded")
    print(f"the fullest limit is used {min(fullest):.2%} at least, {np.mean(fullest):.2%} on average, of those that bind")


def draw_profiles(base: Base, users: int = USERS) -> list[Profile]:
    """Imagine users."""
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(0, 40, (users, base.manifest.shape["dim"])), -127, 127).astype(np.int8)
    return [Profile(each, np.float32(base.manifest.profile_clip / 127)) for each in values]


def best_seconds(work: Callable[[], object]) -> float:
    """Do it many times and take the fastest, by the processor's time."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


if __name__ == "__main__":
    main()
