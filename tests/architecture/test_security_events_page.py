"""docs/security-events.md says what there is: types, severities, risks, answers; and the log lines are listed."""

import re
from pathlib import Path

from kms.core import webhooks
from kms.core.events import KINDS
from kms.rpc import watch
from kms.services import event_recorder, outbox
from kms.sinks import delivery

DOCS = Path(__file__).parents[2] / "docs"


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_every_type_is_listed_with_its_severity_category_risk_and_answers():
    listed = {}
    for line in (DOCS / "security-events.md").read_text().splitlines():
        if re.match(r"\| `[a-z_]+` \| \w+ \| \w+ \| \d\.\d\d \|", line):
            kind, severity, category, risk, _, answers = cells(line)
            listed[kind.strip("`")] = (severity, category, risk, set(filter(None, answers.split(", "))))
    assert listed == {
        kind.value: (rule.severity, rule.category, f"{rule.risk / 100:.2f}", {one.value for one in rule.answers})
        for kind, rule in KINDS.items()
    }


def test_every_header_of_a_webhook_is_listed():
    page = (DOCS / "security-events.md").read_text()
    listed = set(re.findall(r"^\| `(X-Kms-\w+)` \|", page, re.MULTILINE))
    assert listed == {webhooks.SIGNATURE, webhooks.TIMESTAMP, webhooks.DELIVERY, webhooks.TOPIC}


def test_every_log_line_is_listed():
    said = set()
    for module in (watch, event_recorder, outbox, delivery):
        said |= set(re.findall(r'_log\.\w+\(\s*"([a-z_.]+)"', Path(str(module.__file__)).read_text()))
    page = (DOCS / "operations.md").read_text()
    table = re.search(r"^\| log line \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)[1]
    listed = {name for line in table.splitlines() for name in re.findall(r"`([a-z_.]+)`", cells(line)[0])}
    assert listed == said
