"""What is gathered is bounded and survives as JSON; a report is one value, as JSON and as a page without scripts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from kms.core.errors import CorruptRecord
from kms.core.report_body import Heading, compose, content_of
from kms.core.report_controls import Part
from kms.core.report_facts import LONGEST_CELL, MOST_COUNTED, MOST_ROWS, TOP, Facts, Listing, Tally
from kms.core.report_html import render
from kms.core.report_rules import RULES, Rule
from kms.core.reports import Framework
from tests import keyrings
from tests.keyrings import NOW
from tests.reports import new_report, some_facts

TENANT = keyrings.new_tenant("acme")
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u202eevil\x1b[31m\0"
VOID = {"meta", "br", "img", "link", "input", "hr"}


def report(facts, framework=Framework.ALL):
    made = new_report(TENANT, framework)
    return compose(Heading(made, str(made.name("acme")), "tenants/acme", NOW, "1.0", "ab" * 32), facts)


def test_facts_survive_as_json():
    facts = some_facts()
    again = Facts.decode(facts.encode())
    assert again == facts
    assert again.encode() == facts.encode()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"stage": 1}', b"\xff"])
def test_what_is_no_facts_is_refused(data):
    with pytest.raises(CorruptRecord):
        Facts.decode(data)


def test_a_list_keeps_its_first_rows_and_counts_the_rest():
    listing = Listing()
    for number in range(MOST_ROWS + 7):
        listing.add(number, "x" * 1_000)
    assert (len(listing.rows), listing.total, listing.others) == (MOST_ROWS, MOST_ROWS + 7, 7)
    assert listing.rows[0] == [0, "x" * (LONGEST_CELL - 3) + "..."]


def test_sums_keep_the_large_names_lose_nothing_and_stay_bounded():
    tally = Tally()
    for number in range(10 * MOST_COUNTED):
        tally.add(f"small-{number}", 1, 2)
        tally.add("large", 3, 1)
    assert len(tally.sums) <= 2 * MOST_COUNTED
    top, others = tally.top()
    assert top[0] == ("large", [30 * MOST_COUNTED, 10 * MOST_COUNTED])
    assert len(top) == TOP
    assert sum(sums[0] for _, sums in top) + others[0] == 40 * MOST_COUNTED
    assert sum(sums[1] for _, sums in top) + others[1] == 30 * MOST_COUNTED


def test_a_report_has_every_part_in_order_with_the_controls_of_its_framework():
    value = report(some_facts(), Framework.SOC2)
    assert [part["part"] for part in value["parts"]] == [part.value for part in Part if part is not Part.FINDINGS]
    assert all(set(part["controls"]) == {"soc2"} for part in value["parts"])
    assert set(value["controls"]["findings"]) == {"soc2"}
    assert set(value) == {
        *("format", "name", "tenant", "tenant_uid", "framework", "period", "requester", "create_time", "complete_time"),
        *("release", "signing_key_sha256", "controls", "findings", "parts"),
    }
    for part in value["parts"]:
        assert set(part) == {"part", "title", "controls", "figures", "tables", "notes"}
        for table in part["tables"]:
            assert set(table) == {"caption", "columns", "rows", "others"}
            assert {len(row) for row in table["rows"]} <= {len(table["columns"])}, table["caption"]


def test_findings_come_the_worst_first_with_what_they_mean():
    facts = Facts()
    facts.find([(Rule.GRANT_UNUSED, "no call")], "zoe")
    facts.find([(Rule.TRAIL_BROKEN, "event 7 is missing")])
    facts.find([(Rule.KEY_OVERDUE, "overdue by 3 days")], "payroll")
    found = report(facts)["findings"]
    assert [one["rule"] for one in found] == ["trail-broken", "key-overdue", "grant-unused"]
    assert found[1] == {
        "rule": "key-overdue",
        "severity": "high",
        "part": "rotations",
        "meaning": RULES[Rule.KEY_OVERDUE].meaning,
        "recommendation": RULES[Rule.KEY_OVERDUE].recommendation,
        "count": 1,
        "subjects": ["payroll: overdue by 3 days"],
    }


def test_one_value_is_one_text():
    value = report(some_facts())
    content = content_of(value)
    assert json.loads(content) == value
    assert content_of(json.loads(content)) == content
    assert content_of(dict(reversed(value.items()))) == content


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.attributes = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_holds_nothing_but_text_tables_and_style():
    page = Page(render(report(some_facts()), "cd" * 32))
    assert page.open == []
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "nav", "ul", "li", "a", "main"}
    allowed |= {"section", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert set(page.tags) == allowed
    assert all(value.startswith("#") for tag, name, value in page.attributes if name in {"href", "src"})
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_every_table_of_a_page_has_a_caption_and_headers():
    value = report(some_facts())
    text = render(value, "cd" * 32)
    tables = sum(len(part["tables"]) for part in value["parts"]) + 1
    assert text.count("<table>") == text.count("<caption>") == tables
    assert text.count('scope="col"') == sum(len(t["columns"]) for p in value["parts"] for t in p["tables"]) + 5
    assert text.count('scope="row"') == sum(len(t["rows"]) for p in value["parts"] for t in p["tables"]) + 1


def test_hostile_names_stay_text_wherever_they_stand():
    """Every text of the value is made hostile in turn; the page has the same tags and attributes then."""
    value = report(some_facts())
    clean = Page(render(value, "cd" * 32))
    places = list(texts(value))
    assert len(places) > 300
    tried = 0
    for owner, key in places:
        before = owner[key]
        if key in {"framework", "part"} or before == "":
            continue
        owner[key] = HOSTILE
        try:
            text = render(value, HOSTILE)
        finally:
            owner[key] = before
        page = Page(text)
        assert page.tags == clean.tags, (key, before)
        assert page.attributes == clean.attributes, (key, before)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", text)
        tried += 1
    assert tried > 250


def texts(value):
    """Yield where every text of a JSON value stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(inside):
        if isinstance(one, str):
            yield value, key
        elif isinstance(one, dict | list):
            yield from texts(one)


def test_a_page_shows_what_the_value_says():
    text = render(report(some_facts()), "cd" * 32)
    for shown in ("payroll", "AES_256_GCM", "overdue by 3 days", "cd" * 32, "ab" * 32, "CC6.1", "164.312(b)"):
        assert shown in text
