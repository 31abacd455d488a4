"""The normative documents' own vectors, read from the page and held against the code."""

import numpy as np
import pytest
from documents import block, fields, golden_payload, toy_adaptation, toy_base

from ossia.adaptation import Adaptation, Coordinates, decode_payload, encode_payload
from ossia.adaptation.tail import Tail
from ossia.quantization.grid import join_planes, quantize, slice_bits, split_planes


def numbers(text):
    return np.array([[float(number) for number in text.split()]], np.float32)


def test_the_grid_is_what_the_document_prints():
    printed = fields(block("base-format.md", "quantize"))
    grid = quantize(numbers(printed["weights"]))
    assert np.array_equal(grid.q, numbers(printed["q"]))
    assert np.array_equal(slice_bits(grid.q, 4), numbers(printed["t4"]))
    assert np.array_equal(slice_bits(grid.q, 2), numbers(printed["t2"]))
    assert [scale.astype("<f4").tobytes().hex() for scale in grid.scales] == [printed["s2"], printed["s4"], printed["s8"]]


def test_the_planes_are_what_the_document_prints():
    printed = fields(block("base-format.md", "planes"))
    q = numbers(printed.pop("q")).astype(np.int8)
    assert {name: plane.tobytes().hex() for name, plane in split_planes(q).items()} == printed
    planes = {name: np.frombuffer(bytes.fromhex(text), np.uint8)[None].copy() for name, text in printed.items()}
    assert np.array_equal(join_planes(planes, q.shape[1]), q)


def test_the_tail_scores_as_the_document_prints():
    printed = {name: numbers(text)[0] for name, text in fields(block("base-format.md", "tail")).items()}
    dim, rows = len(printed["state"]), len(printed["scores"])
    codes = printed["codes"].astype(np.uint8).reshape(rows, -1)
    rotation = printed["rotation"].astype(np.float16).reshape(dim, dim)
    codewords = printed["codewords"].astype(np.float16).reshape(codes.shape[1], -1, dim // codes.shape[1])
    assert np.array_equal(printed["state"] @ rotation.astype(np.float32), printed["turned"])
    assert np.array_equal(Tail(codes, codewords, rotation).scores(printed["state"], np.arange(rows)), printed["scores"])


def test_the_payload_is_what_the_document_prints():
    adaptation, header = toy_adaptation()
    assert encode_payload(toy_base(), adaptation, **header).hex() == golden_payload().hex()


def test_the_printed_payload_decodes_to_the_printed_adaptation():
    adaptation, header = toy_adaptation()
    decoded = decode_payload(toy_base(), golden_payload(), allow_unsigned=True)
    assert {name: getattr(decoded.header, name) for name in header} == header
    for term in ("gates", "codes", "rows"):
        assert np.array_equal(getattr(decoded.adaptation, term), getattr(adaptation, term))
    assert np.array_equal(decoded.adaptation.deltas[0].expand(), adaptation.deltas[0].expand())


def test_coordinates_are_spelled_and_expand_as_the_document_prints():
    base, printed = toy_base(), fields(block("payload-format.md", "expanded"))
    weights = {"a": [-0.5, 3.0], "b": [0.1, -0.2]}
    deltas = tuple(Coordinates(slot, np.array(theta, np.float16)) for slot, theta in weights.items())
    body = encode_payload(base, Adaptation(deltas=deltas), issued=0, expiry=0)[80:]
    assert body.hex() == golden_payload("coordinates").hex()
    assert {each.slot: each.expand(base.basis[each.slot]).astype("<f4").tobytes().hex() for each in deltas} == printed


@pytest.mark.parametrize(("signed", "expected"), [(False, 368), (True, 432)])
def test_the_reference_rankers_codes_take_368_bytes_and_432_signed(reference_base, signed, expected):
    sign = (lambda message: bytes(64)) if signed else None
    codes = np.random.default_rng(0).integers(0, 4, reference_base.channels).astype(np.uint8)
    data = encode_payload(reference_base, Adaptation(codes=codes), issued=1, expiry=2, sign=sign)
    assert len(data) == expected
    decoded = decode_payload(reference_base, data, allow_unsigned=True, verify=lambda header, message, signature: None)
    assert np.array_equal(decoded.adaptation.codes, codes)
