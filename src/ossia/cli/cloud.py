"""The cloud's answer to a device, on the command line: personalize. No torch here."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ossia.adaptation.allocate import Device
from ossia.adaptation.base import Base
from ossia.adaptation.cost import costs
from ossia.adaptation.payload import encode_payload
from ossia.adaptation.prices import CostTable
from ossia.adaptation.profile import decode_profile
from ossia.cli.ids import parse_device_id
from ossia.cli.options import ANY_DEVICE_HEX, BaseArgument, BudgetOption, CostTableOption, DeviceIdOption, JsonOption
from ossia.cli.output import answer, count
from ossia.errors import ArtifactError, PayloadError
from ossia.files import write_whole
from ossia.service.answerer import FRESH
from ossia.service.generator import load_personalizer
from ossia.service.keychain import NOBODY, load_signer
from ossia.types import Budget, Profile

DAY_S = 24 * 60 * 60
LONGEST_DAYS = 10_000  # the payload's clock ends in 2106


def personalize(
    base: BaseArgument,
    profile: Annotated[Path, typer.Option("--profile", metavar="F", help="From `profile`.")],
    out: Annotated[Path, typer.Option("--out", metavar="PAYLOAD", help="Where to write the payload.")],
    personalizer: Annotated[
        str, typer.Option("--personalizer", metavar="NAME", help="One of the base's, or two: NAME+NAME.")
    ] = "chord",
    budget: BudgetOption = "",
    cost_table: CostTableOption = None,
    device_id: DeviceIdOption = ANY_DEVICE_HEX,
    sequence: Annotated[
        int, typer.Option("--sequence", min=1, max=2**64 - 1, help="Grows with every payload of a device.")
    ] = 1,
    days: Annotated[float, typer.Option("--days", min=0, max=LONGEST_DAYS, help="How long it is valid.")] = 30,
    keys: Annotated[Path | None, typer.Option("--keys", help="From `keys make`; left out: nobody signs.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make one user's version of the base: profile and budget in, payload out, signed with the newest key of --keys.

    Example: ossia personalize base --profile profile.bin --budget weight_bytes=60000 --keys keys --out payload.bin

    Example: ossia personalize base --profile p.bin --personalizer forward-ofa --budget latency_us=40 --cost-table F --out out
    """
    limits, device = Budget.parse(budget), parse_device_id(device_id)
    loaded = Base.load(base)
    user = _read_profile(profile, loaded.manifest.shape["dim"])
    now = int(time.time())
    signer = NOBODY if keys is None else load_signer(keys, now)
    answers, device_costs = load_personalizer(loaded, personalizer), read_costs(cost_table)
    adaptation = answers.personalize(user, limits, device=device_costs, signed=keys is not None)
    data = encode_payload(
        loaded,
        adaptation,
        device_id=device,
        sequence=sequence,
        issued=now,
        expiry=min(now + round(days * DAY_S), signer.expiry),
        key_id=signer.key_id,
        sign=signer.sign,
    )
    write_whole(out, data)
    priced = costs(loaded, adaptation, cost_table=device_costs.cost_table, signed=keys is not None)
    result = {"payload": out, "payload_bytes": len(data), "costs": priced, "sequence": sequence, "issued": now}
    result["key"] = None if keys is None else f"{signer.key_id:08x}"
    kept = f"on the device {count(priced.weight_bytes, 'weight byte')}, {count(priced.table_bytes, 'table byte')}"
    answer(result, [f"{out}: {count(len(data), 'byte')}; {kept}"], as_json=as_json)


def read_costs(cost_table: Path | None) -> Device:
    """Describe the device to the allocator: it holds the base and the table, and is as fast as measured.

    Args:
        cost_table: a file; None: nothing was measured.

    Returns:
        the device.
    """
    return FRESH if cost_table is None else Device(cost_table=CostTable.load(cost_table))


def _read_profile(path: Path, dim: int) -> Profile:
    """Read a profile that a device sent, and name its file in what may be wrong."""
    try:
        return decode_profile(path.read_bytes(), dim)
    except OSError as error:
        raise ArtifactError(f"{path}: expected a profile, got: {error.strerror or error}") from error
    except PayloadError as error:
        raise PayloadError(f"{path}: {error}", error.refusal) from error
