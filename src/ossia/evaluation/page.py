"""The report's page: its style, and the frame around its sections.

One file, nothing from outside: the style is inline, there is no script, and a content security policy forbids whatever a later
edit might slip in. Light and dark follow the reader's system. Colors: one hue that deepens with the bits for widths; for
families gray (counts), blue (the same for everybody), vermilion (made for the user), ochre (controls), told apart by people
who are color blind.
"""

from collections.abc import Sequence
from html import escape

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

COLORS = """
:root{color-scheme:light dark;--paper:#f7f5f0;--card:#fffefb;--ink:#1d2026;--soft:#5d636e;--line:#e2ded4;
--family-baseline:#737a86;--family-base:#2b63ad;--family-personal:#c8431f;--family-control:#94690a;
--width-0:#efe7e2;--width-2:#f3bd9f;--width-4:#dd7044;--width-8:#7c2410}
@media (prefers-color-scheme:dark){:root{--paper:#15171c;--card:#1c1f26;--ink:#e9e7e1;--soft:#a0a5b0;--line:#333843;
--family-baseline:#a3a9b5;--family-base:#7fb0f0;--family-personal:#ff8a5f;--family-control:#dfb04f;
--width-0:#2a2d35;--width-2:#6d3420;--width-4:#c8623a;--width-8:#ffd2b5}}
"""
"""CSS variables of every page and drawing, for light and dark."""

_STYLE = (
    f"{COLORS}"
    """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:48px 24px 64px}
h1,h2{font-family:"Iowan Old Style",Charter,"Palatino Linotype",Palatino,Georgia,serif;line-height:1.2;text-wrap:balance}
h1{font-size:clamp(28px,4.4vw,44px);margin:0 0 12px;font-weight:600}
h2{font-size:25px;margin:0 0 6px;font-weight:600}
h3{font-size:16px;margin:0}
p{max-width:72ch;margin:0 0 14px}
.promise{font-size:19px;color:var(--soft);max-width:62ch}
.note{color:var(--soft);font-size:14.5px}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:26px 28px;margin-top:24px}
.headlines{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:16px;margin-top:26px}
.headlines div{border-top:3px solid var(--family-personal);padding-top:10px}
.headlines b{display:block;font-size:30px;line-height:1.15;font-weight:600;letter-spacing:-.01em}
.headlines span{color:var(--soft);font-size:14.5px;line-height:1.4;display:block;margin-top:4px}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th{color:var(--soft);font-weight:500;text-align:right;padding:6px 8px;border-bottom:1px solid var(--line);
vertical-align:bottom}
td{text-align:right;padding:7px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child td{border-bottom:0}
th:first-child,td:first-child{text-align:left;padding-left:0}
tr.personal td:first-child{font-weight:600}
td small,li small{color:var(--soft);font-size:12.5px}
.number{color:var(--soft);font-weight:400;display:inline-block;min-width:1.9em}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:8px;background:currentColor}
.dot.baseline,.track.baseline{color:var(--family-baseline)}.dot.base,.track.base{color:var(--family-base)}
.dot.personal,.track.personal{color:var(--family-personal)}.dot.control,.track.control{color:var(--family-control)}
.track{display:block;position:relative;width:130px;height:14px;background:color-mix(in srgb,var(--line) 45%,transparent);
border-radius:2px}
.track i{position:absolute;left:0;top:0;bottom:0;background:currentColor;opacity:.42;border-radius:2px}
.track b{position:absolute;top:50%;height:2px;margin-top:-1px;background:var(--ink)}
.track b::before,.track b::after{content:"";position:absolute;top:-3px;height:8px;width:2px;background:var(--ink)}
.track b::before{left:-1px}.track b::after{right:-1px}
.key{display:flex;flex-wrap:wrap;gap:6px 20px;color:var(--soft);font-size:14px;margin:0 0 14px;padding:0;list-style:none}
.key i{display:inline-block;width:13px;height:13px;border-radius:3px;margin-right:7px;vertical-align:-1px;
border:1px solid var(--line)}
.beside{display:grid;grid-template-columns:1fr 215px;gap:18px;align-items:center}
.names{list-style:none;margin:0;padding:0;font-size:14px}
.names li{margin:7px 0;display:flex;gap:9px;align-items:center;line-height:1.3}
.badge{flex:none;width:21px;height:21px;border-radius:50%;font-size:11.5px;display:grid;place-items:center;color:var(--card)}
.badge.baseline{background:var(--family-baseline)}.badge.base{background:var(--family-base)}
.badge.personal{background:var(--family-personal)}.badge.control{background:var(--family-control)}
.compare{margin-top:22px}
svg.plot{display:block;width:100%;height:auto}
svg.plot text{font-family:inherit!important}
svg.narrow{display:none;max-width:520px;margin:0 auto}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:26px}
figure{margin:0}
figcaption{margin-bottom:10px}
figcaption span{color:var(--soft);font-size:14px;display:block}
svg.codes{width:100%;height:auto;display:block}
svg.codes text{font-size:10.5px;fill:var(--soft)}
svg.codes .group{fill:var(--ink);font-size:11.5px;font-weight:600}
.width-0{fill:var(--width-0);background:var(--width-0)}.width-2{fill:var(--width-2);background:var(--width-2)}
.width-4{fill:var(--width-4);background:var(--width-4)}.width-8{fill:var(--width-8);background:var(--width-8)}
.alike{opacity:.25}
.user{padding-top:20px;margin-top:20px;border-top:1px solid var(--line)}
.user:first-of-type{border-top:0;padding-top:6px;margin-top:0}
.lists{display:grid;grid-template-columns:repeat(auto-fit,minmax(225px,1fr));gap:12px 26px;margin-top:14px}
.lists h4{font-size:14.5px;margin:0;font-weight:600}
.lists h4 span{display:block;color:var(--soft);font-weight:400;font-size:13px;min-height:1.5em}
ol.ranking{margin:6px 0 0;padding:0;list-style:none;counter-reset:rank;font-size:14.5px}
ol.ranking li{counter-increment:rank;display:grid;grid-template-columns:1.5em 1fr auto 2.1em;gap:7px;padding:4px 0;
border-bottom:1px solid var(--line);align-items:baseline;line-height:1.35}
ol.ranking li::before{content:counter(rank);color:var(--soft)}
ol.ranking li.met{font-weight:600}
ol.ranking li small:last-child{text-align:right}
h3 small{color:var(--soft);font-weight:400;font-size:14px;margin-left:8px}
.up{color:var(--family-base)!important}.new{color:var(--family-personal)!important}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 22px;margin:0;font-size:14.5px}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
code{font:13.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media (max-width:760px){
main{padding:28px 12px 40px}
section{padding:20px 16px;border-radius:12px}
svg.wide{display:none}.beside{grid-template-columns:1fr}svg.narrow{display:block}
thead{display:none}
tbody tr{display:grid;grid-template-columns:repeat(6,1fr);gap:8px 10px;padding:14px 0;border-bottom:1px solid var(--line)}
tbody tr:last-child{border-bottom:0}
td{border:0;padding:0;text-align:left;white-space:normal;grid-column:span 2;order:4}
td:first-child,td.bar{grid-column:1/-1;order:1}
td.bar{order:2}
td[data-label*="@"]{grid-column:span 3;order:3}
td[data-label]::before{content:attr(data-label);display:block;color:var(--soft);font-size:12px}
.compare::before{content:"Difference of NDCG@10, user by user";display:block;font-weight:600}
.compare tbody tr{grid-template-columns:auto 1fr auto}
.compare td[data-label]{grid-column:span 1;white-space:nowrap}
.track{width:100%}
dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:10px}
}
@media print{body{background:none}section{break-inside:avoid}}
"""
)


def page(title: str, parts: Sequence[str]) -> str:
    """Put the frame around finished parts.

    Args:
        title: plain text.
        parts: HTML, already escaped where it holds text of others.

    Returns:
        the whole document.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, note: str, *parts: str) -> str:
    """One section of the page.

    Args:
        heading: plain text.
        note: plain text under the heading: how to read what follows.
        parts: HTML.

    Returns:
        HTML.
    """
    return f'<section>\n<h2>{escape(heading)}</h2>\n<p class="note">{escape(note)}</p>\n' + "\n".join(parts) + "\n</section>"
