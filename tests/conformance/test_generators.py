"""What every personalizer that generates weights keeps: the laws of codes (`test_personalizers.py`), and three of its own.

Untrained it is the base, to the bit; what it computes in training is what a device computes from its payload; its structures
are the ones that the service would choose.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hidden_tensors import hidden_tensors
from safetensors.torch import load, save
from torch import nn

from ossia.adaptation import Adaptation, Base, apply, decode_payload, encode_payload
from ossia.adaptation.structure import StructurePlan
from ossia.backbones.published import from_weights
from ossia.device.runtimes import RUNTIMES
from ossia.personalizers import AbstractGenerator
from ossia.personalizers.forward_ofa import ForwardOfa, project, soften
from ossia.personalizers.generator import delta_joint, gate_joint
from ossia.training.events import EventBatch
from ossia.training.frozen import FrozenBase
from ossia.training.generator import make_generator
from ossia.training.generator_answers import objective, weights_loss
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.types import Candidates

RECIPES = [("duet", 1), ("duet", 0), ("ridge-head", 1), ("forward-ofa", 2), ("forward-ofa", 0)]
KINDS = ["sasrec", "gru4rec", "caser", "sasrec with valves", "sasrec with a basis"]
USERS = 12


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, base_of: Callable[..., Base]) -> Base:
    return base_of(request.param)


@pytest.fixture(params=RECIPES, ids=str)
def recipe(base: Base, request: pytest.FixtureRequest) -> GeneratorRecipe:
    name, rank = request.param
    sizes = {"hidden": 16, "latent": 6, "structure": 5}
    return GeneratorRecipe(personalizer=name, rank=rank, coordinates=bool(base.basis), **sizes).resolve()


def make(base: Base, recipe: GeneratorRecipe, *, seed: int = 0) -> AbstractGenerator:
    """Make a generator that has left its start, where Δ is zero on purpose."""
    made = make_generator(base, recipe)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return made.eval()


def draw_events(base: Base) -> EventBatch:
    rng = np.random.default_rng(0)
    histories, targets = (torch.from_numpy(rng.integers(0, 40, size)) for size in ((USERS, 4), USERS))
    profiles = torch.randn(USERS, base.manifest.shape["dim"], generator=torch.Generator().manual_seed(0))
    return EventBatch(histories, targets, profiles, torch.arange(USERS))


def learn_once(base: Base, recipe: GeneratorRecipe, made: AbstractGenerator) -> None:
    loss = weights_loss(FrozenBase.load(base, (8,), torch.device("cpu")), recipe, 0)
    loss(made, draw_events(base), torch.Generator().manual_seed(0)).backward()


def answer(made: AbstractGenerator, profiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kept = made.choose(profiles, torch.full_like(profiles[:, 0], 0.7))
    return kept, made.numbers(profiles, kept)


def test_every_tensor_is_registered(base: Base, recipe: GeneratorRecipe) -> None:
    assert list(hidden_tensors(make(base, recipe))) == []


def test_every_parameter_gets_a_gradient_and_moves_in_a_step(base: Base, recipe: GeneratorRecipe) -> None:
    made = make(base, recipe)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    learn_once(base, recipe, made)
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    torch.optim.Adam(made.parameters(), lr=1e-2).step()
    for name, parameter in made.named_parameters():
        assert (parameter != before[name]).any(), name


def test_an_untrained_generator_can_leave_its_start(base: Base, recipe: GeneratorRecipe) -> None:
    made = make_generator(base, recipe)
    learn_once(base, recipe, made)
    torch.optim.Adam(made.parameters(), lr=1e-2).step()
    profiles = draw_events(base).profiles
    assert answer(made, profiles)[1].std(dim=0).max() > 0  # users differ: the saddle of two zero factors is avoided
    assert made.layout.read(answer(made, profiles)[1][0].detach().numpy())


def test_the_anchor_costs_what_the_state_has_moved(base: Base) -> None:
    recipe, batch = GeneratorRecipe(anchor=0.5, sparsity=0.25), draw_events(base)
    frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
    own, spent = frozen.states(batch.histories), torch.full((USERS,), 0.5)
    missed = nn.functional.cross_entropy(frozen.logits(own), batch.targets)
    torch.testing.assert_close(objective(frozen, recipe, batch, own, spent), missed + 0.125)
    moved = own + torch.eye(own.shape[1])[0] * 2
    missed = nn.functional.cross_entropy(frozen.logits(moved), batch.targets)
    torch.testing.assert_close(objective(frozen, recipe, batch, moved, spent), missed + 0.5 * 4 + 0.125)


def test_frozen_decoders_stay_as_drawn_and_the_rest_learns(base: Base) -> None:
    recipe = GeneratorRecipe(personalizer="duet", decoders="frozen", hidden=16, latent=6)
    made = make(base, recipe)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    learn_once(base, recipe, made)
    torch.optim.Adam([each for each in made.parameters() if each.requires_grad], lr=1e-2).step()
    for name, parameter in made.named_parameters():
        assert (parameter == before[name]).all() == name.startswith("decoder"), name
    assert any(name.startswith("decoder") for name in made.state_dict())  # frozen, but saved


def test_all_that_shapes_the_output_survives_save_and_load(base: Base, recipe: GeneratorRecipe) -> None:
    first, second = make(base, recipe, seed=0), make(base, recipe, seed=1)
    profiles = draw_events(base).profiles
    assert (answer(first, profiles)[1] != answer(second, profiles)[1]).any()
    second.load_state_dict(load(save(first.state_dict())))
    for one, other in zip(answer(first, profiles), answer(second, profiles), strict=True):
        assert torch.equal(one, other)


def test_an_answer_does_not_depend_on_the_batch(base: Base, recipe: GeneratorRecipe) -> None:
    made, profiles = make(base, recipe), draw_events(base).profiles
    alone = [answer(made, profiles[user : user + 1]) for user in range(USERS)]
    for together, one_by_one in zip(answer(made, profiles), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-5, atol=1e-6)


def test_untrained_it_is_the_base_to_the_bit(base: Base, recipe: GeneratorRecipe) -> None:
    made, batch = make_generator(base, recipe).eval(), draw_events(base)
    kept = made.choose(batch.profiles, torch.ones(USERS))
    numbers = made.numbers(batch.profiles, kept)
    sent = Adaptation(deltas=made.layout.read(numbers[0].detach().numpy()))
    payload = encode_payload(base, sent, issued=0, expiry=1)
    assert payload == encode_payload(base, Adaptation(), issued=0, expiry=1)
    frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
    joints = {"slot": delta_joint(made.layout, numbers, frozen.basis), "gate": gate_joint(made.gates, torch.ones_like(kept))}
    states, plain = (frozen.backbone(batch.histories, **each) for each in (joints, {}))
    if base.manifest.backbone == "gru4rec":  # with joints it steps event by event, without them in one pass
        torch.testing.assert_close(states, plain, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(states, plain)


@torch.no_grad()
def test_training_computes_what_a_device_computes_from_the_payload(base: Base, recipe: GeneratorRecipe) -> None:
    made, batch = make(base, recipe), draw_events(base)
    kept, numbers = answer(made, batch.profiles)
    frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
    backbone = frozen.backbone
    trained = backbone(
        batch.histories, slot=delta_joint(made.layout, numbers, frozen.basis), gate=gate_joint(made.gates, kept)
    )[:, -1]
    plain = backbone(batch.histories)[:, -1]
    off, moved = [], []
    for user in range(USERS):
        gates = kept[user].numpy().astype(np.uint8)
        skipped = {name for name, gate in zip(made.gates, gates.tolist(), strict=True) if not gate}
        sent = Adaptation(gates=gates, deltas=made.layout.read(numbers[user].numpy(), skipped))
        arrived = decode_payload(base, encode_payload(base, sent, issued=0, expiry=1), allow_unsigned=True).adaptation
        history = batch.histories[user].numpy()
        state = RUNTIMES["numpy"](base, arrived).state(history)
        off.append(np.linalg.norm(state - trained[user].numpy()) / np.linalg.norm(state))
        moved.append(np.linalg.norm(state - plain[user].numpy()) / np.linalg.norm(state))
        twin = from_weights(apply(base, arrived))
        stepped = twin(batch.histories[user : user + 1], gate=gate_joint(made.gates, kept[user : user + 1]))
        np.testing.assert_allclose(stepped[0, -1].numpy(), state, rtol=1e-4, atol=1e-4)
    # What differs is one rounding to 8 bits, and float16; what the payload does is much more.
    assert np.mean(off) < 0.02
    assert np.mean(moved) > 4 * np.mean(off), (np.mean(moved), np.mean(off))


def test_relaxed_structures_become_the_discrete_ones_as_the_temperature_falls(base: Base) -> None:
    made = make(base, GeneratorRecipe(personalizer="forward-ofa", hidden=16))
    assert isinstance(made, ForwardOfa)
    profiles, everything = draw_events(base).profiles, torch.ones(USERS)
    log_odds = made.log_odds(profiles, everything)
    discrete = made.choose(profiles, everything)
    assert 0 < discrete.mean() < 1
    torch.testing.assert_close(soften(log_odds, 1e-6), discrete)
    assert (soften(log_odds, 1.0) - discrete).abs().max() > 0.1
    drawn = made.relax(profiles, everything, 1e-6, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}


def test_a_structure_in_torch_is_the_structure_in_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    log_odds, costs = torch.randn(400, 9, generator=generator), torch.rand(9, generator=generator) + 0.05
    costs, share = costs / costs.sum(), torch.rand(400, generator=generator)
    ours = project(log_odds, costs, share).numpy()
    for mine, room, chosen in zip(log_odds.numpy(), share.tolist(), ours, strict=True):
        plan = StructurePlan(costs.double().numpy()[:, None], np.array([room]))
        assert plan.share == pytest.approx(room)
        assert (plan.choose(mine) == chosen).all()


def test_all_blocks_skipped_is_still_a_ranking(base: Base) -> None:
    nothing = Adaptation(gates=np.zeros(len(base.manifest.gates), np.uint8))
    scores = RUNTIMES["numpy"](base, nothing).scores(np.array([1, 2, 3]), Candidates(np.arange(40)))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
