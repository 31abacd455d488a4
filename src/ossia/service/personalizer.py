"""Profile and budget in, adaptation out: what the cloud does for one request. onnxruntime and numpy, never torch.

    importance of channels    the personalizer's network, exported to ONNX, on the dequantized profile
    importance of rows        softmax over the table of  (state · item + β · log (count + 1)) / T,  β and T from the manifest
    adaptation                `ossia.adaptation.allocate`: exact, within every limit of the budget

The second line is retrieval, not a network: the profile *is* the user state, so the table's own scores say which rows this
user will be offered; β (chosen on validation) mixes in what everybody takes, for the days until the next contact.

The answer for a profile does not depend on who else is in the batch: scores are computed user by user, and rows of the
network's matrix products do not change with their number (tests hold the bytes equal from 1 to 64). Every request gets
exactly one answer: a graph exported at a fixed batch once dropped sixty of sixty-four in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import Device, Importance, Plan, make_plan
from ossia.adaptation.allocate_codes import CodeAllocator
from ossia.adaptation.base import Base
from ossia.adaptation.manifests import Tensors, read_files, read_manifest, read_tensors
from ossia.adaptation.personalizer_manifest import CONSTANT, MODEL, PersonalizerManifest, personalizer_folder
from ossia.errors import ArtifactError, UsageError
from ossia.service.answerer import FRESH, Answerer, RowCodes
from ossia.types import Budget, Profile

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True, eq=False)
class Personalizer(Answerer[Plan]):
    """A trained personalizer, ready to answer. Immutable; threads may share it.

    Attributes:
        base: the base that it speaks of.
        manifest: how it was trained, and β.
        constant: the mean importance over training users: the same answer for everybody, as a control.

    Example:
        `Personalizer.load(Base.load(path), "chord").personalize(profile, Budget.parse("weight_bytes=48000"))`
    """

    PLANS = 16  # 200 kB each for the reference ranker, and about 300 bytes for each row of a large table

    base: Base
    manifest: PersonalizerManifest
    constant: Importance
    _session: "InferenceSession"

    @classmethod
    def load(cls, base: Base, name: str) -> "Personalizer":
        """Read `BASE/personalizers/NAME`, every file held to its digest.

        Args:
            base: the base, loaded from its folder.
            name: the personalizer's name.

        Returns:
            the personalizer.

        Raises:
            UsageError: the base has no personalizer of that name; names those that it has.
            ArtifactError: a file is missing or changed, it was trained on another base, or its graph has other shapes.
        """
        folder, manifest, content = read_personalizer(base, name)
        constant = _read_constant(folder / CONSTANT, content[CONSTANT], base)
        inputs, outputs = {"profiles": manifest.profile_dim}, {"importance": base.channels}
        graph = open_graph(folder / MODEL, content[MODEL], inputs, outputs)
        if manifest.profile_dim != base.manifest.shape["dim"]:
            raise ArtifactError(f"{folder}: expected profiles of the base's length, got {manifest.profile_dim} values")
        return cls(base, manifest, constant, graph)

    def channel_importance(self, profiles: Sequence[Profile]) -> Float32[np.ndarray, "users channels"]:
        """Ask the network which channels matter to each user.

        Args:
            profiles: as decoded from the devices.

        Returns:
            importance above 0, mean 1 over a user's channels.

        Raises:
            UsageError: a profile of another length.
        """
        if not profiles:
            return np.zeros((0, self.base.channels), np.float32)
        answers: Any = self._session.run(None, {"profiles": stack_profiles(profiles, self.manifest.profile_dim)})[0]
        assert answers.shape == (len(profiles), self.base.channels), f"{len(profiles)} requests, answers {answers.shape}"
        return np.asarray(answers, np.float32)

    def row_importance(self, profile: Profile) -> Float32[np.ndarray, " rows"]:
        """Say which rows of the item table matter to a user.

            I_i = exp(z_i) / Σ_j exp(z_j),   z_i = (state · E_i + β · log(count_i + 1)) / T

        With the temperature T that calibrates the base, this is about the probability that the user takes item i next.

        Args:
            profile: as decoded from the device.

        Returns:
            a share of 1 for each row of the base's table.
        """
        z = self._rows @ profile.state + self._prior  # one product per user, so that a batch changes no bit
        z /= np.float32(self.manifest.temperature)
        shares = np.exp(z - z.max())
        return np.asarray(shares / shares.sum(), np.float32)

    def allocate_many(
        self, profiles: Sequence[Profile], plans: Sequence[Plan], held: Sequence[RowCodes | None] | None = None
    ) -> list[Adaptation]:
        """Choose many users' widths by plans made before.

        Args:
            profiles: one per user.
            plans: one per user, from `plan`.
            held: one per user: the width code of each row that the device has, and may keep; None: it has none.

        Returns:
            one adaptation per user.

        Raises:
            UsageError: a profile of another length.
        """
        channels = self.channel_importance(profiles)
        alone = [number for number, plan in enumerate(plans) if plan.codes_alone]
        answers = self._codes.allocate(channels[alone], [plans[number].budget for number in alone])
        chosen = dict(zip(alone, answers, strict=True))
        for number in set(range(len(plans))) - chosen.keys():
            rows = self.row_importance(profiles[number]) if "rows" in plans[number].needs else None
            mine = None if held is None else held[number]
            chosen[number] = plans[number].allocate(Importance(channels[number], rows), mine)
        return [chosen[number] for number in range(len(plans))]

    def personalize_nobody(self, budget: Budget, *, device: Device = FRESH, signed: bool = False) -> Adaptation:
        """Choose the widths that suit the average user: the control that personal answers must beat.

        Args:
            budget: what the device can afford.
            device: what is on it already, and how fast it is.
            signed: leave room for a signature.

        Returns:
            one adaptation for everybody with this budget.

        Raises:
            BudgetError: nothing fits.
        """
        return self.plan(budget, device=device, signed=signed).allocate(self.constant)

    def _make_plan(self, budget: Budget, device: Device, signed: bool) -> Plan:
        """Work out what a budget means on a device."""
        return make_plan(self.base, budget, alphabet=self.manifest.alphabet, device=device, signed=signed)

    @cached_property
    def _codes(self) -> CodeAllocator:
        """Prices of the base's channels, laid out once."""
        return CodeAllocator.of(self.base, self.manifest.alphabet)

    @cached_property
    def _rows(self) -> Float32[np.ndarray, "rows dim"]:
        """The item vectors at 8 bits, as the profile's own arithmetic saw them."""
        return self.base.table.whole.dequantize()

    @cached_property
    def _prior(self) -> Float32[np.ndarray, " rows"]:
        """β · log(count + 1) of each row."""
        return np.asarray(np.float32(self.manifest.beta) * np.log1p(self.base.table.counts), np.float32)


def read_personalizer(base: Base, name: str) -> tuple[Path, PersonalizerManifest, dict[str, bytes]]:
    """Read `BASE/personalizers/NAME`, every file held to its digest.

    Args:
        base: the base, loaded from its folder.
        name: the personalizer's name.

    Returns:
        its folder, its manifest, and the bytes of its other files by name.

    Raises:
        UsageError: the base has no personalizer of that name; names those that it has.
        ArtifactError: a file is missing or changed, or it was trained on another base.
    """
    folder = personalizer_folder(base.path, name)
    known = sorted(path.name for path in folder.parent.glob("[!.]*") if path.is_dir())
    if name not in known:
        raise UsageError(f"{base.path}: expected one of its personalizers ({', '.join(known) or 'none'}), got {name!r}")
    _, manifest = read_manifest(folder / "manifest.json", PersonalizerManifest)
    if manifest.base != base.id.hex():
        raise ArtifactError(f"{folder}: expected one trained on base {base.id.hex()[:12]}…, got {manifest.base[:12]}…")
    content = read_files(folder, manifest.files)
    if missing := {MODEL, CONSTANT} - content.keys():
        raise ArtifactError(f"{folder}: expected a manifest that names {', '.join(sorted(missing))}")
    return folder, manifest, content


def stack_profiles(profiles: Sequence[Profile], dim: int) -> Float32[np.ndarray, "users dim"]:
    """Put user states side by side.

    Args:
        profiles: as decoded from the devices; at least one.
        dim: what a profile's length must be.

    Returns:
        one state per row.

    Raises:
        UsageError: a profile of another length.
    """
    for profile in profiles:
        if profile.values.shape != (dim,):
            raise UsageError(f"profile: expected {dim} values, got {profile.values.shape}")
    scales = np.array([profile.scale for profile in profiles], np.float32)
    return np.stack([profile.values for profile in profiles]) * scales[:, None]  # each profile's `state`


def _read_constant(path: Path, content: bytes, base: Base) -> Importance:
    """Read the mean importance; rows that came with a newer table matter to nobody yet."""
    tensors: Tensors = read_tensors(path, content)
    channels, rows = (tensors.get(name, np.zeros(0, np.float32)) for name in ("channels", "rows"))
    if channels.shape != (base.channels,) or not 0 < rows.size <= len(base.table):
        raise ArtifactError(f"{path}: expected {base.channels:,} channels and {len(base.table):,} rows, got other sizes")
    return Importance(channels, np.pad(rows, (0, len(base.table) - len(rows))))


def open_graph(path: Path, content: bytes, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> "InferenceSession":
    """Open an ONNX graph, single-threaded (a service runs one per core), and check what goes in and out.

    Args:
        path: of the file, for the error.
        content: its bytes.
        inputs: the width of each input, by name.
        outputs: likewise of what comes out.

    Returns:
        the session.

    Raises:
        ArtifactError: it is no graph, or one of other shapes, or of a fixed number of users.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, one per status code, with no common parent
        raise ArtifactError(f"{path}: expected an ONNX graph, got: {error}") from error
    found = [(each.name, each.shape[1:]) for each in (*session.get_inputs(), *session.get_outputs())]
    expected = [(name, [width]) for name, width in (*inputs.items(), *outputs.items())]
    free = all(isinstance(each.shape[0], str) for each in session.get_inputs())
    if found != expected or not free:
        raise ArtifactError(f"{path}: expected {expected} for any number of users, got {found}")
    return session
