"""What a device runs, in numpy and in C: fold, forward, rank, and the rules of a session. Never torch, never a network."""

from ossia.device.guard import Guard
from ossia.device.ranking import Ranking, rerank
from ossia.device.resident import Resident, open_resident
from ossia.device.runtimes import NUMPY, RUNTIMES, DeviceRanker, StateRanker
from ossia.device.session import Receipt, Session, open_session
from ossia.device.settings import Settings

__all__ = [
    "NUMPY",
    "RUNTIMES",
    "DeviceRanker",
    "Guard",
    "Ranking",
    "Receipt",
    "Resident",
    "Session",
    "Settings",
    "StateRanker",
    "open_resident",
    "open_session",
    "rerank",
]
