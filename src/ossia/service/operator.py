"""A page for the operator, made on the server: devices, releases, payloads, refusals. It needs no script and no other file.

It shows what `/metrics` and `ossia release status` say, for a person in a hurry: whoever may see those may see this, and the
proxy decides who that is. Counts only: no id of a device or an item is on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from prometheus_client.samples import Sample

from ossia.adaptation.releases import Rollout
from ossia.service.metrics import Metrics

STYLE = """<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{padding:.2rem 1rem .2rem 0;text-align:left;border-bottom:1px solid #ddd}
td+td{text-align:right;font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}}</style>"""


def operator_page(
    facts: Mapping[str, str], metrics: Metrics, rollout: Rollout | None, reports: Mapping[int, tuple[int, int]], uptime_s: float
) -> str:
    """Write the page.

    Args:
        facts: what the service is, by name.
        metrics: what it counted since its start.
        rollout: what the repository offers; None without one.
        reports: devices that reported on a release, and those that complain, by its number.
        uptime_s: since its start.

    Returns:
        HTML.
    """
    samples = metrics.samples()
    counted = _table("Payloads", ("", ""), _payloads(samples, uptime_s))
    parts = [
        _table("Service", ("", ""), facts.items()),
        _table("Releases", ("release", "state", "reports", "complaints"), _releases(rollout, reports)),
        counted,
        _table("Refusals, by reason", ("reason", "asks"), _by_label(samples, "ossia_refusals_total", "reason")),
        _table("Responses, by route and status", ("route", "responses"), _responses(samples)),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>ossia</title>{STYLE}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>ossia</h1>{"".join(parts)}</body></html>'


def _releases(rollout: Rollout | None, reports: Mapping[int, tuple[int, int]]) -> Iterable[tuple[str, ...]]:
    """List the releases on offer, newest first, and those that are reported on."""
    if rollout is None:
        return
    for number in sorted({rollout.settled, rollout.next, *rollout.halted, *reports} - {0}, reverse=True):
        count, worse = reports.get(number, (0, 0))
        yield str(number), _state(number, rollout), f"{count:,}", f"{worse:,}"


def _state(number: int, rollout: Rollout) -> str:
    """Say what a release is."""
    if number in rollout.halted:
        return "halted"
    if number == rollout.settled:
        return "for everybody"
    return f"for {rollout.percent} %" if number == rollout.next else "before"


def _payloads(samples: Sequence[Sample], uptime_s: float) -> Iterable[tuple[str, str]]:
    """Say how many payloads, how fast, how late."""
    value = {sample.name: sample.value for sample in samples if not sample.labels}
    given, asked = value.get("ossia_payloads_total", 0), value.get("ossia_payload_seconds_count", 0)
    yield "given out", f"{given:,.0f}"
    yield "a second, since the start", f"{given / max(uptime_s, 1):,.1f}"
    if asked:
        yield "mean time of an answer", f"{1000 * value['ossia_payload_seconds_sum'] / asked:,.1f} ms"
    yield "in flight", f"{value.get('ossia_in_flight', 0):,.0f}"


def _by_label(samples: Sequence[Sample], name: str, label: str) -> Iterable[tuple[str, str]]:
    """List a series by its one label, most first."""
    found = [(sample.labels[label], sample.value) for sample in samples if sample.name == name]
    return ((each, f"{count:,.0f}") for each, count in sorted(found, key=lambda pair: -pair[1]))


def _responses(samples: Sequence[Sample]) -> Iterable[tuple[str, str]]:
    """List responses, errors first."""
    found = [sample for sample in samples if sample.name == "ossia_responses_total"]
    for sample in sorted(found, key=lambda sample: (-int(sample.labels["status"]), sample.labels["route"])):
        yield f"{sample.labels['status']} {sample.labels['route']}", f"{sample.value:,.0f}"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; everything in it is escaped."""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads) if any(heads) else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    empty = '<tr><td colspan="4">nothing yet</td></tr>'
    return f"<h2>{escape(title)}</h2><table>{f'<tr>{head}</tr>' if head else ''}{body or empty}</table>"
