"""The surface for people: JSON documents in and out, and the OpenAPI page that is made from them.

The same rules as on the binary path, spelled for a hand and `curl`: bytes are hexadecimal, items have their catalog's ids. A
document with a field too many, too few or of another type is refused with the place: ``Expected `int`, got `str` - at `$.at```.
"""

from typing import Annotated, Any, Literal

import msgspec

from ossia import __version__

Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$", max_length=20_000)]
Digest = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{32}){1,2}$", description="An id, or the first 16 bytes of it.")]
PublicKey = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Signature = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]
Limit = Annotated[int, msgspec.Meta(gt=0, lt=2**32)]
ItemId = Annotated[str, msgspec.Meta(max_length=256)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A document without unknown fields."""


class Enrolment(Strict, frozen=True):
    """A device shows its key: `signature` is over "ossia enroll", the key, and `at` as four little-endian bytes."""

    public: PublicKey
    at: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    signature: Signature


class Enrolled(Strict, frozen=True):
    """Who the device is from now on, and the token that it shows as `Authorization: Bearer TOKEN`."""

    device: Digest
    token: str
    sequence: int


class Limits(Strict, frozen=True):
    """What the device can afford, in bytes; a limit that is left out is none."""

    download_bytes: Limit | None = None
    weight_bytes: Limit | None = None
    table_bytes: Limit | None = None


class SessionRequest(Strict, frozen=True):
    """A profile and what the device can afford.

    `candidates` of the whole catalog, or of what the caller's own retrieval offers (all of it where no number is given), best
    first, less those blocked. `rows`: send the bytes of the rows that the payload names; `held`: less what is there,
    as lists of rows like those in a payload.
    """

    profile: Hex
    budget: Limits = Limits()
    base: Digest | None = None
    table: Digest | None = None
    rows: bool = False
    held: Hex = ""
    candidates: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    offer: Annotated[tuple[ItemId, ...], msgspec.Meta(max_length=10_000)] = ()
    block: Annotated[tuple[ItemId, ...], msgspec.Meta(max_length=10_000)] = ()


class SessionReply(Strict, frozen=True):
    """A signed payload, the base's own best items for the profile, and the rows' bytes where they were asked for."""

    payload: str
    sequence: int
    expiry: int
    candidates: tuple[str, ...]
    rows: str = ""


class Feedback(Strict, frozen=True):
    """What a user chose to tell; without consent nothing is kept."""

    consent: Literal[True]
    events: Annotated[tuple[ItemId, ...], msgspec.Meta(min_length=1, max_length=100)]


class Kept(Strict, frozen=True):
    """How many events are kept of this device."""

    kept: int


class Report(Strict, frozen=True):
    """How a device fares with a release: whether it ranks worse than what it had, or does not run at all."""

    release: Annotated[int, msgspec.Meta(gt=0, lt=2**32)]
    worse: bool


class Reported(Strict, frozen=True):
    """Whether the release is on its way to more devices."""

    halted: bool


class Erased(Strict, frozen=True):
    """Whether there was anything to erase."""

    erased: bool


class Release(Strict, frozen=True):
    """What is served: ids are the SHA-256 of manifests, to be fetched as artifacts; the manifests name all other files."""

    base: Digest
    table: Digest
    personalizer: str
    keys: tuple[str, ...]


class Health(Strict, frozen=True):
    """Whether the service serves, and what it holds."""

    status: Literal["ok", "stopping"]
    devices: int
    feedback: int
    in_flight: int


class Fault(Strict, frozen=True):
    """What is wrong: a word to count on, and a sentence."""

    name: str
    error: str


OPERATIONS: tuple[tuple[str, str, str, type[Strict] | None, type[Strict], bool], ...] = (
    ("post", "/v1/devices", "Enroll a device.", Enrolment, Enrolled, False),
    ("delete", "/v1/devices", "Erase the device that asks, and all that it ever told.", None, Erased, True),
    ("post", "/v1/session", "Personalize: the binary hot path's rules, in JSON.", SessionRequest, SessionReply, True),
    ("post", "/v1/feedback", "Tell what was chosen, by consent.", Feedback, Kept, True),
    ("post", "/v1/guard", "Report on a release; too many complaints halt it.", Report, Reported, True),
    ("get", "/v1/release", "Say what is served.", None, Release, False),
    ("get", "/health", "Say how the service is.", None, Health, False),
)
"""Method, path, what it does, document in, document out, whether a token is needed."""


def openapi(profile_bytes: int | None = None) -> dict[str, Any]:
    """Describe the JSON surface.

    Args:
        profile_bytes: the length of a profile, where all bases that are served have the same.

    Returns:
        an OpenAPI 3.1 document.
    """
    documents = [each for _, _, _, ask, reply, _ in OPERATIONS for each in (ask, reply) if each is not None]
    _, components = msgspec.json.schema_components([*documents, Fault], ref_template="#/components/schemas/{name}")
    if profile_bytes is not None:
        pattern = f"^[0-9a-f]{{{2 * profile_bytes}}}$"
        components["SessionRequest"]["properties"]["profile"] = {"type": "string", "pattern": pattern}
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, ask, reply, token in OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(summary, ask, reply, token)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ossia",
            "version": __version__,
            "description": "The hot path: docs/service-protocol.md.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(summary: str, ask: type[Strict] | None, reply: type[Strict], token: bool) -> dict[str, Any]:
    """Describe one operation."""
    faults = (["400", "408", "413", "422"] if ask else []) + (["401"] if token or ask is Enrolment else [])
    faults += ["409", "503", "504"] if ask is SessionRequest else []
    described: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": _content(reply, "Done.")} | {status: _content(Fault, "Refused.") for status in sorted(faults)},
    }
    if ask is not None:
        described["requestBody"] = _content(ask, None) | {"required": True}
    if token:
        described["security"] = [{"token": []}]
    return described


def _content(document: type[Strict], description: str | None) -> dict[str, Any]:
    """Refer to a document."""
    content: dict[str, Any] = {
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{document.__name__}"}}}
    }
    return content if description is None else {"description": description} | content
