"""Generated weights at work: what an answer costs the cloud and the device, and what learning on the device would cost instead.

    python benchmarks/generated_weights.py BASE [--rank 1] [--coordinates] [--history 20 --history 50]

    cloud     µs of processor time a user, through onnxruntime and the budget to encoded bytes; batch of 64
    device    µs to check a payload's bytes and fold it, all slots: the engine, and numpy
    learning  one epoch over one user's history for a delta of the same slots, torch, one thread: the way without a message
    bytes     of payloads: gates alone, gates and deltas

Neither side pays for what a process does once: Python, torch, opening the base, making the optimizer. An epoch is every event
of the history once as a target, against 768 negatives, as a large catalog is trained: all events in one step, which is the
cheapest epoch there is, and event by event, as they come. Learning is not charged for folding what it has learned. A first step
comes before the clock runs.

Networks have random weights: what an answer costs does not depend on them. Times are of processor time, the best of
many rounds; the ratios are moved less by a busy machine.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch

from ossia.adaptation import Adaptation, Base, apply, decode_payload, encode_payload
from ossia.adaptation.manifests import tensor_bytes, write_files, write_manifest
from ossia.adaptation.personalizer_manifest import Generated, PersonalizerManifest, personalizer_folder
from ossia.device.engine import fold_payload, open_model
from ossia.personalizers import AbstractGenerator
from ossia.personalizers.decoder import Decoder
from ossia.personalizers.generator import delta_joint
from ossia.service.generator import Generator
from ossia.training.export import export_onnx
from ossia.training.frozen import FrozenBase
from ossia.training.generator import make_generator
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.types import Budget, Profile

USERS, ROUNDS, NEGATIVES = 64, 30, 768


def main() -> None:
    """Measure both methods."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--coordinates", action="store_true", help="for a base that was published with --basis")
    parser.add_argument("--history", type=int, action="append", help="events of a user; repeatable: 20 and 50")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    base = Base.load(asked.base)
    for method in ("duet", "forward-ofa"):
        recipe = GeneratorRecipe(personalizer=method, rank=asked.rank, coordinates=asked.coordinates)
        measure(base, recipe, asked.history or [20, 50])


def measure(base: Base, recipe: GeneratorRecipe, histories: list[int]) -> None:
    """Measure one method."""
    network = make_generator(base, recipe)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    generator, profiles = install(base, recipe, network), draw_profiles(base)
    budgets = [Budget()] * USERS

    def answer() -> list[bytes]:
        return [encode_payload(base, each, issued=0, expiry=1) for each in generator.personalize_many(profiles, budgets)]

    payload = max(answer(), key=len)
    gates = encode_payload(base, Adaptation(gates=np.eye(1, len(base.manifest.gates), dtype=np.uint8)[0]), issued=0, expiry=1)
    model = open_model(base)
    cloud = best(answer) / USERS
    engine = best(lambda: fold_payload(model, payload))
    numpy = best(lambda: apply(base, decode_payload(base, payload, allow_unsigned=True).adaptation))
    print(f"{recipe.personalizer}, {form(network)}, {len(base.manifest.gates)} gates")
    print(f"  cloud     {cloud:9.1f} µs a user at batch {USERS}")
    print(f"  device    {engine:9.1f} µs to decode and fold with the engine, {numpy:.1f} with numpy")
    print(f"  bytes     {len(gates):9,} gates alone, {len(payload):,} with deltas; {network.layout.numbers:,} numbers")
    for history in histories:
        at_once, one_by_one = (best(learn_once(base, network, history, steps), rounds=9) for steps in (1, history))
        print(f"  learning  {at_once:9.1f} µs for an epoch of {history} events at once, {one_by_one:.1f} event by event")
        print(f"  learning / device   {at_once / engine:.0f} at once, {one_by_one / engine:.0f} event by event")


def form(network: AbstractGenerator) -> str:
    """Say what a delta is."""
    return f"{network.layout.rank} coordinates" if network.layout.coordinates else f"rank {network.layout.rank}"


def install(base: Base, recipe: GeneratorRecipe, network: AbstractGenerator) -> Generator:
    """Export a network beside a link to its base, and load what the service would."""
    dim = base.manifest.shape["dim"]
    with TemporaryDirectory() as place:
        folder = personalizer_folder(Path(place), "made")
        graphs = {name: export_onnx(each.network, each.inputs, each.output) for name, each in network.graphs(dim).items()}
        content = graphs | {"constant.safetensors": tensor_bytes({"profile": np.zeros(dim, np.float32)})}
        manifest = PersonalizerManifest(
            method=recipe.personalizer, base=base.id.hex(), profile_dim=dim, channels=base.channels, alphabet=(), beta=0.0,
            temperature=1.0, recipe=msgspec.to_builtins(recipe), data="", versions={}, validation={},
            files=write_files(folder, content),
            generated=Generated(
                tuple(slot.name for slot in network.layout.slots), network.layout.rank, network.structured, recipe.coordinates
            ),
        )  # fmt: skip
        write_manifest(folder / "manifest.json", manifest)
        return Generator.load(replace(base, path=Path(place)), "made")


def learn_once(base: Base, network: AbstractGenerator, history: int, steps: int) -> Callable[[], None]:
    """Make one epoch of Adam's steps on one user's delta: every event of a history a target once, in so many steps."""
    frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
    numbers = Decoder(1, network.layout).linear.bias.detach().clone()[None].requires_grad_(True)
    optimizer = torch.optim.Adam([numbers], lr=1e-3)
    rng = np.random.default_rng(0)
    events = torch.from_numpy(rng.integers(0, len(base.table), (1, history + 1)))
    negatives = torch.from_numpy(rng.integers(0, len(base.table), NEGATIVES))

    def step(until: int, count: int) -> None:
        read = events[:, max(0, until - frozen.base.manifest.shape["length"]) : until]
        states = frozen.backbone(read, slot=delta_joint(network.layout, numbers, frozen.basis))[0, -count:]
        targets = events[0, until + 1 - len(states) : until + 1]
        scores = states @ frozen.vectors[torch.cat([targets, negatives])].T
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(states)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def epoch() -> None:
        for until in range(history // steps, history + 1, history // steps):
            step(until, history // steps)

    step(history, history)
    return epoch


def draw_profiles(base: Base) -> list[Profile]:
    """Draw users."""
    values = np.random.default_rng(0).integers(-127, 128, (USERS, base.manifest.shape["dim"])).astype(np.int8)
    return [Profile(each, np.float32(0.02)) for each in values]


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Time some work: µs of processor time, the best of some rounds."""
    found = []
    for _ in range(rounds):
        started = time.process_time_ns()
        work()
        found.append((time.process_time_ns() - started) / 1e3)
    return min(found)


if __name__ == "__main__":
    main()
