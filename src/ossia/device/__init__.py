"""What a device runs, in numpy: fold, forward, rank, and the rules of a session. Never torch, never a network."""

from ossia.device.ranking import Ranking, rerank
from ossia.device.runtimes import RUNTIMES, DeviceRanker
from ossia.device.session import Receipt, Session, open_session

__all__ = ["RUNTIMES", "DeviceRanker", "Ranking", "Receipt", "Session", "open_session", "rerank"]
