"""A report as one page of HTML: nothing but text and style, no script, nothing loaded, every value escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

# What a browser may do with the page, should a value ever slip out of its place: nothing but the style below.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1a1a1a; }
h1, h2, h3 { line-height: 1.2; }
h2 { border-top: 2px solid #555; padding-top: 1rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; width: 100%; }
caption { text-align: left; font-weight: bold; padding: .25rem 0; }
th, td { border: 1px solid #767676; padding: .25rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #eee; }
dl { display: grid; grid-template-columns: max-content auto; gap: .25rem 1rem; }
dt { font-weight: bold; }
dd { margin: 0; overflow-wrap: anywhere; }
.controls { color: #444; }
@media print { h2 { break-before: auto; } table { break-inside: auto; } }
"""
FRAMEWORKS: Final = {
    "soc2": "SOC 2",
    "pci-dss": "PCI DSS v4.0",
    "hipaa": "HIPAA Security Rule",
    "gdpr": "GDPR",
    "iso27001": "ISO/IEC 27001:2022",
    "all": "all frameworks",
}


def render(report: Mapping[str, Any], digest: str) -> str:
    """Return the page; *digest* is the SHA-256 of the report's JSON in hexadecimal digits."""
    title = f"Compliance report of {report['tenant']} for {FRAMEWORKS[report['framework']]}"
    period = report["period"]
    about = {
        "Report": report["name"],
        "Period": f"{period['start_time']} to {period['end_time']} (not included)",
        "Asked for by": f"{report['requester']} at {report['create_time']}",
        "Completed at": report["complete_time"],
        "Release": report["release"],
        "SHA-256 of the JSON": digest,
        "SHA-256 of the signing key": report["signing_key_sha256"],
    }
    parts = report["parts"]
    body = [
        f"<h1>{_text(title)}</h1>",
        _pairs(about.items()),
        '<p>What is signed is the JSON of this report; this page shows the same values.</p><nav aria-label="Parts"><ul>',
        '<li><a href="#findings">Findings and recommendations</a></li>',
        *(f'<li><a href="#{_text(part["part"])}">{_text(part["title"])}</a></li>' for part in parts),
        "</ul></nav><main>",
        _findings(report["findings"], report["controls"]["findings"]),
        *map(_part, parts),
        "</main>",
    ]
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>"
    )
    whole = "\n".join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{whole}\n</body></html>\n'


def _findings(findings: Sequence[Mapping[str, Any]], controls: Mapping[str, Sequence[str]]) -> str:
    columns = ("Severity", "Finding", "Number", "What", "Recommendation")
    rows = [[one["severity"], one["meaning"], one["count"], _subjects(one), one["recommendation"]] for one in findings]
    table = _table({"caption": "Findings, the worst first", "columns": columns, "rows": rows, "others": 0})
    return f'<section id="findings"><h2>Findings and recommendations</h2>{_controls(controls)}{table}</section>'


def _subjects(finding: Mapping[str, Any]) -> str:
    more = finding["count"] - len(finding["subjects"])
    return "; ".join(finding["subjects"]) + (f"; and {more} others" if more else "")


def _part(part: Mapping[str, Any]) -> str:
    inside = [f"<h2>{_text(part['title'])}</h2>", _controls(part["controls"])]
    if part["figures"]:
        inside.append(_pairs((figure["label"], figure["value"]) for figure in part["figures"]))
    inside += [_table(table) for table in part["tables"]]
    inside += [f"<p>{_text(note)}</p>" for note in part["notes"]]
    return f'<section id="{_text(part["part"])}">' + "".join(inside) + "</section>"


def _controls(controls: Mapping[str, Sequence[str]]) -> str:
    named = (f"{FRAMEWORKS[framework]}: {', '.join(those)}" for framework, those in controls.items())
    return f'<p class="controls">{_text("; ".join(named))}</p>'


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(label)}</dt><dd>{_text(value)}</dd>" for label, value in pairs) + "</dl>"


def _table(table: Mapping[str, Any]) -> str:
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table["columns"])
    rows = "".join(f"<tr>{_row(row)}</tr>" for row in table["rows"])
    if not table["rows"]:
        rows = f'<tr><td colspan="{len(table["columns"])}">none</td></tr>'
    more = f"<p>and {table['others']} others</p>" if table["others"] else ""
    return (
        f"<table><caption>{_text(table['caption'])}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}"
    )


def _row(row: Sequence[object]) -> str:
    first, *rest = row
    return f'<th scope="row">{_text(first)}</th>' + "".join(f"<td>{_text(value)}</td>" for value in rest)


def _text(value: object) -> str:
    """Return a value as HTML; control characters and what turns the direction of writing are shown, not obeyed."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in str(value))
    return escape(shown, quote=True)
