"""Fleets of devices on a virtual clock: the real rules of device and service, with faults, and laws held at every event."""
