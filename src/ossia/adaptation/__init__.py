"""What crosses the wire and what it means, in numpy: base, table, adaptation, payload, profile, budgets."""

from ossia.adaptation.adaptation import Adaptation, Coordinates, Delta, Dense, LowRank
from ossia.adaptation.allocate import Device, Importance, allocate
from ossia.adaptation.apply import Weights, apply
from ossia.adaptation.base import Base, write_base
from ossia.adaptation.basis import Basis, singular_basis
from ossia.adaptation.cost import Costs, costs
from ossia.adaptation.lower import lower
from ossia.adaptation.payload import Header, Payload, decode_payload, encode_payload
from ossia.adaptation.prices import WHOLE, CostTable
from ossia.adaptation.profile import decode_profile, encode_profile, make_profile
from ossia.adaptation.table import ItemTable

__all__ = [
    "WHOLE",
    "Adaptation",
    "Base",
    "Basis",
    "Coordinates",
    "CostTable",
    "Costs",
    "Delta",
    "Dense",
    "Device",
    "Header",
    "Importance",
    "ItemTable",
    "LowRank",
    "Payload",
    "Weights",
    "allocate",
    "apply",
    "costs",
    "decode_payload",
    "decode_profile",
    "encode_payload",
    "encode_profile",
    "lower",
    "make_profile",
    "singular_basis",
    "write_base",
]
