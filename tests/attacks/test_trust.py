"""Attacks on a device that trusts one key: each is refused by its own name, and each check is missed when it is taken out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from taking_out import without

from ossia.adaptation import Adaptation, Base, encode_payload
from ossia.adaptation import payload as payload_module
from ossia.adaptation.keys import TrustedKey, TrustedKeys, key_id
from ossia.adaptation.payload import HEADER, largest_payload
from ossia.adaptation.sections import decode_table
from ossia.device import Session, open_session
from ossia.device.session import CLOCK_TOLERANCE
from ossia.errors import PayloadError, Refusal
from ossia.files import write_whole
from ossia.service.keychain import LIST, Signer, load_signer, make_keys, revoke_key, rotate_keys
from ossia.types import Candidates

NOW, DAY = 1_800_000_000, 86_400
ME, YOU = bytes(range(16)), bytes(range(1, 17))


@dataclass(frozen=True)
class Scene:
    """A device with a payload in force, and everything an attacker may have got hold of."""

    base: Base
    other_base: Base
    longer_base: Base
    session: Session
    signer: Signer
    old: Signer
    revoked: Signer
    stranger: Signer


@pytest.fixture(scope="module")
def scene(make_base, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    base, folder = make_base(), tmp_path_factory.mktemp("keys")
    make_keys(folder / "mine", NOW + DAY // 2)
    old = load_signer(folder / "mine", NOW)
    rotate_keys(folder / "mine", NOW + 30 * DAY)
    revoked = load_signer(folder / "mine", NOW)
    rotate_keys(folder / "mine", NOW + 90 * DAY)
    revoke_key(folder / "mine", revoked.key_id)
    make_keys(folder / "theirs", NOW + 90 * DAY)
    signer, stranger = load_signer(folder / "mine", NOW), load_signer(folder / "theirs", NOW)
    session = open_session(base, ME, history=np.array([4, 17, 30]), verify=TrustedKeys.load(folder / "mine" / LIST).verify)
    table = replace(base.table, grid=replace(base.table.grid, scales=2 * base.table.grid.scales))
    altered = replace(base, table=table)
    session, receipt = session.receive(signed(base, signer, every=3, sequence=5), NOW)
    assert receipt.accepted
    return Scene(base, make_base(seed=1), altered, session, signer, old, revoked, stranger)


def signed(base: Base, signer: Signer, every: int = 2, **header: object) -> bytes:
    """Make a payload that changes every ranking: every so many-th row is left out."""
    rows = ((np.arange(len(base.table)) % every > 0) * 3).astype(np.uint8)
    adaptation = Adaptation(codes=np.full(base.channels, 1, np.uint8), rows=rows)
    fields = {"device_id": ME, "sequence": 9, "issued": NOW - 10, "expiry": NOW + DAY, "key_id": signer.key_id} | header
    return encode_payload(base, adaptation, sign=signer.sign, **fields)  # type: ignore[arg-type]


def shown(session: Session) -> tuple[bytes, bytes]:
    ranking = session.rank(Candidates(np.arange(len(session.base.table))), None, NOW)
    return ranking.items.tobytes(), ranking.scores.tobytes()


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


ATTACKS: dict[str, tuple[Refusal, Callable[[Scene], bytes]]] = {
    "a byte of the body changed": ("forged", lambda it: flip(_good(it), HEADER.size)),
    "a byte of the signature changed": ("forged", lambda it: flip(_good(it), len(_good(it)) - 1)),
    "signed by a stranger under our key's id": ("forged", lambda it: signed(it.base, it.stranger, key_id=it.signer.key_id)),
    "signed by a stranger": ("unknown_key", lambda it: signed(it.base, it.stranger)),
    "signed with a revoked key": ("revoked_key", lambda it: signed(it.base, it.revoked)),
    "valid for longer than its key": ("outlived_key", lambda it: signed(it.base, it.old, expiry=NOW + DAY)),
    "the signature taken off": ("unsigned", lambda it: _without_signature(_good(it))),
    "for another device": ("another_device", lambda it: signed(it.base, it.signer, device_id=YOU)),
    "for another base": ("another_base", lambda it: signed(it.other_base, it.signer)),
    "for another table": (
        "another_table",
        lambda it: signed(replace(it.base, table=replace(it.base.table, id=bytes(32))), it.signer),
    ),
    "for rows of other bytes": ("other_rows", lambda it: signed(it.longer_base, it.signer)),
    "the payload in force once more": ("replayed", lambda it: signed(it.base, it.signer, sequence=5)),
    "an older sequence": ("replayed", lambda it: signed(it.base, it.signer, sequence=4)),
    "expired": ("expired", lambda it: signed(it.base, it.signer, expiry=NOW)),
    "from the future": ("from_the_future", lambda it: signed(it.base, it.signer, issued=NOW + CLOCK_TOLERANCE + 1)),
    "cut in the header": ("truncated", lambda it: _good(it)[:50]),
    "cut in the body": ("truncated", lambda it: _good(it)[:-65]),
    "nothing at all": ("truncated", lambda it: b""),
    "a byte too long": ("oversized", lambda it: _good(it) + b"\0"),
    "a length beyond any payload": ("oversized", lambda it: _endless(it)),
    "bytes of something else": ("malformed", lambda it: b"X" + _good(it)[1:]),
}


def _good(it: Scene) -> bytes:
    return signed(it.base, it.signer)


def _without_signature(data: bytes) -> bytes:
    return data[:5] + b"\0" + data[6:-64]


def _endless(it: Scene) -> bytes:
    """A header that announces more than any payload of this base can have, and the bytes that it announces."""
    size = largest_payload(it.base)
    return _good(it)[:8] + size.to_bytes(4, "little") + _good(it)[12:80] + bytes(size + 64)


def outcome(it: Scene, attack: str) -> Refusal | None:
    """Let the device receive an attack; whatever it says, a refusal changes nothing."""
    after, receipt = it.session.receive(ATTACKS[attack][1](it), NOW)
    assert receipt.accepted is (receipt.refusal is None)
    assert receipt.accepted or after is it.session
    return receipt.refusal


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_refused_by_name_and_the_ranking_stays_as_it_was(scene: Scene, attack: str) -> None:
    before = shown(scene.session)
    assert outcome(scene, attack) == ATTACKS[attack][0]
    assert shown(scene.session) == before


def test_what_is_attacked_is_a_payload_that_would_be_accepted(scene: Scene) -> None:
    after, receipt = scene.session.receive(_good(scene), NOW)
    assert receipt.accepted
    assert shown(after) != shown(scene.session)


def test_every_refusal_has_an_attack() -> None:
    assert {refusal for refusal, _ in ATTACKS.values()} == set(get_args(Refusal))


def test_every_flipped_bit_of_a_signed_payload_is_refused(scene: Scene) -> None:
    data = _good(scene)
    for at in range(len(data)):
        for bit in range(8):
            mutant = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            assert not scene.session.receive(mutant, NOW)[1].accepted, (at, bit)


# Every check is needed: without it its attacks are accepted, or refused under another name.

CHECKED_IN = (
    payload_module.decode_payload,
    payload_module._decode_header,
    payload_module._check_identity,
    payload_module._check_signature,
    decode_table,
    TrustedKeys.verify,
    Session._check_wanted,
)


@pytest.mark.parametrize("attack", [attack for attack, (refusal, _) in ATTACKS.items() if refusal != "malformed"])
def test_no_attack_is_refused_by_its_name_when_its_check_is_taken_out(scene: Scene, attack: str) -> None:
    refusal = ATTACKS[attack][0]
    with without(refusal, CHECKED_IN):
        try:
            found = outcome(scene, attack)
        except Exception as error:  # a device without the check may fail in any way
            found = error
    assert found != refusal
    assert outcome(scene, attack) == refusal


@pytest.mark.parametrize("refusal", ["forged", "revoked_key", "outlived_key", "another_device", "expired", "replayed"])
def test_what_a_thief_gains_without_a_check_is_the_ranking(scene: Scene, refusal: str) -> None:
    attack = next(name for name, (named, _) in ATTACKS.items() if named == refusal and "byte" not in name)
    with without(refusal, CHECKED_IN):
        assert outcome(scene, attack) is None


def by_keys(it: Scene, *revoked: Signer, **changed: object) -> Session:
    """A device that hears that keys are revoked; its session goes on with what it has counted."""
    believed = it.session.verify.__self__  # type: ignore[union-attr]
    keys = {number: replace_key(key, number in {each.key_id for each in revoked}) for number, key in believed.keys.items()}
    return replace(it.session, verify=TrustedKeys(keys).verify, payloads=(), **changed)


def replace_key(key: TrustedKey, revoked: bool) -> TrustedKey:
    return msgspec.structs.replace(key, revoked=revoked)


def take(session: Session, data: bytes, now: int = NOW) -> tuple[Session, Refusal | None]:
    after, receipt = session.receive(data, now)
    return after, receipt.refusal


MOST = 2**64 - 1


def test_a_fast_forward_shuts_a_device_until_the_thiefs_key_is_revoked_and_no_longer(scene: Scene) -> None:
    thief, mine = scene.revoked, scene.signer
    device, refusal = take(by_keys(scene), signed(scene.base, thief, sequence=MOST))
    assert refusal is None
    assert take(device, signed(scene.base, mine, sequence=10))[1] == "replayed"
    told = replace(device, verify=by_keys(scene, thief).verify)
    for sequence in (9, MOST):
        assert take(told, signed(scene.base, thief, sequence=sequence))[1] == "revoked_key"
    opened, refusal = take(told, signed(scene.base, mine, sequence=10))
    assert (refusal, opened.counts) == (None, {mine.key_id: 10, thief.key_id: MOST})


def test_a_fast_forward_ends_with_the_key_though_nobody_revokes_it(scene: Scene) -> None:
    thief, mine = scene.old, scene.signer  # it runs out in half a day
    device, refusal = take(by_keys(scene), signed(scene.base, thief, sequence=MOST, expiry=NOW + DAY // 2))
    assert refusal is None
    after = signed(scene.base, mine, sequence=10)
    assert take(device, after, NOW + DAY // 2 - 1)[1] == "replayed"
    opened, refusal = take(device, after, NOW + DAY // 2)
    assert refusal is None
    assert take(opened, signed(scene.base, thief, sequence=MOST, expiry=NOW + DAY // 2), NOW)[1] == "replayed"  # set back


def test_no_payload_is_taken_twice_under_whatever_key_and_whatever_was_revoked_since(scene: Scene) -> None:
    """Every order of two keys' payloads, each offered again after each step, under every state of the other key."""
    payloads = [
        signed(scene.base, signer, sequence=sequence) for sequence in (6, 7, 8) for signer in (scene.signer, scene.revoked)
    ]
    for order in permutations(range(6), 3):
        device, taken = by_keys(scene), set[bytes]()
        for step, index in enumerate(order):
            device, refusal = take(device, payloads[index])
            taken |= {payloads[index]} if refusal is None else set()
            for revoked in ((), (scene.revoked,), (scene.signer,)):
                heard = replace(device, verify=by_keys(scene, *revoked).verify)
                assert all(take(heard, each)[1] in ("replayed", "revoked_key") for each in taken), (order, step)


def test_an_older_payload_of_another_key_that_is_believed_is_late(scene: Scene) -> None:
    """Counts are apart, but keys are not: what was held back under one does not come after what came under the other."""
    device, _ = take(by_keys(scene), signed(scene.base, scene.signer, sequence=20))
    assert take(device, signed(scene.base, scene.revoked, sequence=19))[1] == "replayed"
    assert take(device, signed(scene.base, scene.revoked, sequence=21))[1] is None


def test_the_counts_are_needed_apart_and_only_where_a_key_is_believed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    device, _ = take(by_keys(scene), signed(scene.base, scene.revoked, sequence=MOST))
    told, data = replace(device, verify=by_keys(scene, scene.revoked).verify), signed(scene.base, scene.signer, sequence=10)
    assert take(told, data)[1] is None
    monkeypatch.setattr(Session, "_believes", lambda *_: True)
    assert take(told, data)[1] == "replayed"
    monkeypatch.setattr(Session, "_believes", lambda *_: False)
    assert take(scene.session, signed(scene.base, scene.signer, sequence=5))[1] is None


# Keys


def test_a_key_is_named_by_its_content_and_the_secret_is_its_owners(tmp_path: Path) -> None:
    listed = make_keys(tmp_path, NOW + DAY)
    [key] = listed.keys
    assert key.id == key_id(bytes.fromhex(key.public)) == load_signer(tmp_path, NOW).key_id
    assert (tmp_path / f"{key.id:08x}.pem").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (tmp_path / LIST).read_bytes()


def test_a_private_key_of_another_is_not_signed_with(tmp_path: Path) -> None:
    [mine], [theirs] = make_keys(tmp_path / "a", NOW + DAY).keys, make_keys(tmp_path / "b", NOW + DAY).keys
    write_whole(tmp_path / "a" / f"{mine.id:08x}.pem", (tmp_path / "b" / f"{theirs.id:08x}.pem").read_bytes())
    with pytest.raises(Exception, match="expected the private half of key"):
        load_signer(tmp_path / "a", NOW)


def test_keys_are_never_overwritten_and_an_expired_one_signs_nothing(tmp_path: Path) -> None:
    make_keys(tmp_path, NOW + DAY)
    with pytest.raises(Exception, match="expected a folder without keys"):
        make_keys(tmp_path, NOW + DAY)
    with pytest.raises(Exception, match="neither revoked nor expired"):
        load_signer(tmp_path, NOW + DAY)


def test_a_list_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    [key] = make_keys(tmp_path, NOW + DAY).keys
    text = (tmp_path / LIST).read_text()
    (tmp_path / LIST).write_text(text.replace(key.public, key.public[:-2]))
    with pytest.raises(Exception, match="32 bytes each"):
        TrustedKeys.load(tmp_path / LIST)


def test_a_verifier_refuses_with_payload_errors_only(scene: Scene) -> None:
    header = payload_module.decode_payload(scene.base, _good(scene), verify=scene.session.verify).header
    for signature in (b"", bytes(64), bytes(63), b"\xff" * 64):
        with pytest.raises(PayloadError, match="signature"):
            scene.session.verify(header, b"", signature)  # type: ignore[misc]
