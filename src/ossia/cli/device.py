"""The device's half of the command line: profile, rerank, inspect. None of them needs torch, polars or onnxruntime."""

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.cost import costs
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.payload import Payload, decode_payload
from ossia.adaptation.profile import encode_profile
from ossia.cli.ids import Listed, name_some, parse_device_id, read_listed
from ossia.cli.options import (
    ANY_DEVICE_HEX,
    BaseArgument,
    BudgetOption,
    DeviceIdOption,
    HistoryOption,
    JsonOption,
    RuntimeOption,
    TrustOption,
)
from ossia.cli.output import answer, count, say
from ossia.device.ranking import Ranking
from ossia.device.ranking import offered as may_show
from ossia.device.session import Session, open_session
from ossia.errors import ArtifactError, PayloadError, UsageError
from ossia.files import write_whole
from ossia.types import WIDTHS, Budget, Candidates


def profile(
    base: BaseArgument,
    history: HistoryOption,
    out: Annotated[Path, typer.Option("--out", metavar="F", help="Where to write the profile.")],
    runtime: RuntimeOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Turn a history into what may leave the device: a vector of small integers, never the history.

    Example: ossia profile base --history history.json --out profile.bin
    """
    loaded = Base.load(base)
    listed = _read_known(history, loaded, "history")
    data = encode_profile(open_session(loaded, history=listed.rows, runtime=runtime).profile())
    write_whole(out, data)
    result = {"profile": out, "bytes": len(data), "history": len(listed.ids), "unknown": listed.unknown}
    answer(result, [f"{out}: {count(len(data), 'byte')} for a history of {count(len(listed.ids), 'item')}"], as_json=as_json)


def rerank(
    base: BaseArgument,
    history: HistoryOption,
    payload: Annotated[Path | None, typer.Option("--payload", help="From `personalize`; left out: the base as it is.")] = None,
    candidates: Annotated[
        Path | None, typer.Option("--candidates", metavar="C", help="Item ids, like the history; left out: every item not met.")
    ] = None,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Without --candidates: offer the history's items too.")
    ] = False,
    block: Annotated[
        Path | None, typer.Option("--block", metavar="FILE", help="Item ids never to show, like the history.")
    ] = None,
    allow: Annotated[
        Path | None, typer.Option("--allow", metavar="FILE", help="The only item ids to show; --block wins over it.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many to show.")] = 10,
    runtime: RuntimeOption = "default",
    device_id: DeviceIdOption = ANY_DEVICE_HEX,
    trust: TrustOption = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Accept a payload that nobody signed: only for one that you made yourself.")
    ] = False,
    budget: BudgetOption = "",
    as_json: JsonOption = False,
) -> None:
    """Rank candidates on the device: verify, decode and fold the payload, to less where --budget is less, then score.

    Example: ossia rerank base --payload payload.bin --trust keys.json --history history.json --candidates candidates.json

    Example: ossia rerank base --history history.json --block sold-out.json
    """
    loaded = Base.load(base)
    listed = _read_known(history, loaded, "history")
    offered = (
        _whole(loaded, () if keep_seen else listed.ids) if candidates is None else _read_known(candidates, loaded, "candidates")
    )
    offered, unknown = _restrict(loaded, offered, block, allow)
    session = open_session(
        loaded,
        parse_device_id(device_id),
        history=listed.rows,
        runtime=runtime,
        allow_unsigned=allow_unsigned,
        verify=None if trust is None else TrustedKeys.load(trust).verify,
        budget=_held_to(budget),
    )
    ranking = _rank(session, payload, offered, top)
    shown = list(_shown(loaded, offered, ranking))
    result = {"ranking": shown, "unknown_history": listed.unknown, "unknown_candidates": offered.unknown} | unknown
    answer(result, (_ranking_line(place, row) for place, row in enumerate(shown, start=1)), as_json=as_json)


def inspect(
    base: BaseArgument,
    payload: Annotated[Path | None, typer.Option("--payload", help="Say what this payload does to the base.")] = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a base holds, and what a payload would do to it; its signature is checked against --trust only.

    Example: ossia inspect base --payload payload.bin --trust keys.json
    """
    loaded = Base.load(base)
    result: dict[str, object] = _describe_base(loaded)
    if payload is None:
        result |= _describe_costs(loaded, Adaptation(), signed=False)
    else:
        decoded = decode_file(loaded, payload, trust)
        signature = "none" if not decoded.header.signed else "not checked" if trust is None else "holds"
        result |= (
            {"signature": signature}
            | _describe_payload(decoded)
            | _describe_costs(loaded, decoded.adaptation, signed=decoded.header.signed)
        )
    width = max(map(len, result))
    answer(result, (f"{name.ljust(width)}  {_plain(name, value)}" for name, value in result.items()), as_json=as_json)


def _restrict(base: Base, listed: Listed, block: Path | None, allow: Path | None) -> tuple[Listed, dict[str, list[str]]]:
    """Take out what is blocked or not allowed, by id: so an id that the base does not know is held to the lists as well."""
    lists = {
        "block": None if block is None else _read_known(block, base, "list", some_known=False),
        "allow": None if allow is None else _read_known(allow, base, "list"),
    }
    names = {name: None if each is None else np.array(each.ids, dtype=np.str_) for name, each in lists.items()}
    places = np.flatnonzero(may_show(np.array(listed.ids, dtype=np.str_), names["block"], names["allow"])).tolist()
    if listed.ids and not places:
        say("rerank: nothing is left to rank; the lists forbid every candidate")
    kept = Listed([listed.ids[place] for place in places], listed.rows[places])
    return kept, {f"unknown_{name}": each.unknown for name, each in lists.items() if each is not None}


def _read_known(path: Path, base: Base, what: str, *, some_known: bool = True) -> Listed:
    """Read a list of ids, and say which of them the base does not know."""
    listed = read_listed(path, base.table, what, some_known=some_known)
    if listed.unknown:
        say(f"{path}: {count(len(listed.unknown), 'id')} that the base does not know: {name_some(listed.unknown)}")
    return listed


def _whole(base: Base, seen: Collection[str]) -> Listed:
    """Offer the whole catalog, but not what was seen."""
    met = set(seen)
    rows = np.array([row for row, item in enumerate(base.table.ids) if item not in met], np.int32)
    return Listed([base.table.ids[row] for row in rows], rows)


def _held_to(text: str) -> Budget:
    """Read what a payload is held to on the device."""
    budget = Budget.parse(text)
    if budget.download_bytes is not None or budget.latency_us is not None:
        raise UsageError(f"budget: expected weight_bytes or table_bytes, for the payload is here, got {text!r}")
    return budget


def _rank(session: Session, payload: Path | None, offered: Listed, top: int) -> Ranking:
    """Let the session judge the payload, and rank; the command line says no where an app would go on with the base."""
    now = int(time.time())
    if payload is not None:
        session, receipt = session.receive(_read_payload(payload), now)
        if not receipt.accepted:
            raise PayloadError(f"{payload}: {receipt.reason}", receipt.refusal or "malformed")
    return session.rank(Candidates(offered.rows), top, now)


def _shown(base: Base, offered: Listed, ranking: Ranking) -> Iterator[dict[str, object]]:
    """Put ids and titles back; a score of −inf, an item that can't be scored, is null in JSON."""
    for position, row, score in zip(ranking.positions.tolist(), ranking.items.tolist(), ranking.scores.tolist(), strict=True):
        title = base.table.titles[row] if base.table.titles is not None and row >= 0 else None
        yield {"id": offered.ids[position], "score": score if score > float("-inf") else None, "title": title}


def _ranking_line(place: int, row: dict[str, object]) -> str:
    """Write one line of a ranking for people."""
    score = "       –" if row["score"] is None else f"{row['score']:8.4f}"
    return f"{place:3d}  {score}  {row['id']}" + (f"  {row['title']}" if row["title"] else "")


def _read_payload(path: Path) -> bytes:
    """Read a payload's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: expected a payload, got: {error.strerror or error}") from error


def decode_file(base: Base, path: Path, trust: Path | None = None) -> Payload:
    """Decode a payload to look at it or to work with it by hand, and name its file in what may be wrong.

    Args:
        base: the base that it is for.
        path: the payload's file; it may be unsigned.
        trust: `keys.json`; None: any signature will do.

    Returns:
        the payload.

    Raises:
        ArtifactError: there is no such file.
        PayloadError: its bytes are no payload for this base, or nobody trusted signed it.
    """
    verify = (lambda *_: None) if trust is None else TrustedKeys.load(trust).verify
    try:
        return decode_payload(base, _read_payload(path), allow_unsigned=True, verify=verify)
    except PayloadError as error:
        raise PayloadError(f"{path}: {error}", error.refusal) from error


def _describe_base(base: Base) -> dict[str, object]:
    """List what a base holds."""
    manifest = base.manifest
    personalizers = sorted(folder.name for folder in (base.path / "personalizers").glob("*") if folder.is_dir())
    return {
        "base": base.id.hex(),
        "table": base.table.id.hex(),
        "backbone": manifest.backbone,
        "shape": dict(manifest.shape),
        "slots": len(manifest.slots),
        "channels": base.channels,
        "gates": len(manifest.gates),
        "items": len(base.table),
        "personalizers": personalizers,
    }


def _describe_payload(payload: Payload) -> dict[str, object]:
    """List what a payload says of itself, and how many channels and rows get each width."""
    header, adaptation = payload.header, payload.adaptation
    return {
        "device_id": header.device_id.hex(),
        "sequence": header.sequence,
        "issued": header.issued,
        "expiry": header.expiry,
        "key": f"{header.key_id:08x}" if header.signed else None,
        "gates_on": None if adaptation.gates is None else int(adaptation.gates.sum()),
        "channels_at_bits": _histogram(adaptation.codes),
        "rows_at_bits": _histogram(adaptation.rows),
        "deltas": [delta.slot for delta in adaptation.deltas],
    }


def _describe_costs(base: Base, adaptation: Adaptation, *, signed: bool) -> dict[str, object]:
    """Price an adaptation on a device that holds the base."""
    priced = costs(base, adaptation, signed=signed)
    return {"weight_bytes": priced.weight_bytes, "table_bytes": priced.table_bytes, "payload_bytes": priced.payload_bytes}


def _histogram(codes: UInt8[np.ndarray, " things"] | None) -> dict[str, int] | None:
    """Count how many have each width; None: the term is not there."""
    if codes is None:
        return None
    counted = np.bincount(codes, minlength=len(WIDTHS))
    return {str(bits): int(number) for bits, number in zip(WIDTHS, counted, strict=True)}


def _plain(name: str, value: object) -> str:
    """Write a value for people: `dim 64, length 50` rather than JSON."""
    if name in ("issued", "expiry") and isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {part:,}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)
