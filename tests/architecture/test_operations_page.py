"""docs/operations.md lists what there is: settings, metrics and exit codes, neither more nor less."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from kms.core.ports import HealthStatus, PartHealth
from kms.kmsd.main import ExitCode
from kms.metric_sources import (
    admission_metrics,
    audit_metrics,
    cache_metrics,
    checkpoint_metrics,
    health_metrics,
    lease_metrics,
    log_metrics,
    schedule_metrics,
    scrub_metrics,
    security_event_metrics,
    sink_metrics,
    token_metrics,
)
from kms.metrics import Metrics
from kms.rpc.admission import FairAdmission, Limit
from kms.services import due_keys, rotation
from kms.services.due_keys import ScheduleCounts
from kms.setting_values import Secret
from kms.settings import Limits, Settings

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def rows(first_column: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    table = re.search(rf"^\| {first_column} \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    assert table, f"no table of {first_column}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def parts_of(annotation: object) -> list[type[BaseModel]]:
    """The models that a setting may be; a secret counts as one value."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) and annotation is not Secret else []
    return [part for argument in get_args(annotation) for part in parts_of(argument)]


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        parts = parts_of(field.annotation)
        if parts:
            for part in parts:
                yield from settings(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", shown(field.get_default(call_default_factory=True))


def shown(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, timedelta):
        return f"{default.total_seconds():.12g}"
    return str(default) if default or default == 0 else "none"


def test_every_setting_is_listed_with_its_default():
    # A discriminator has a default in one of its alternatives and must be written all the same.
    wanted = dict(settings(Settings)) | {"storage.kind": "required"}
    listed = {name.strip("`"): default for name, default, _ in rows("setting")}
    assert listed == wanted
    assert len(rows("setting")) == len(listed)


class Cache:
    hits = misses = evictions = 0

    def __len__(self) -> int:
        return 0


class Noticed:
    dropped = 0
    counts: ClassVar = {("rate_exceeded", "low"): 1}


class Written:
    events, groups, refused = 3, 2, 1


class Told:
    name, delivered, failures = "soc", 1, 0


class Sealed:
    made, failures, serial, anchor_age = 1, 0, 1, 0.0


class Looked:
    records, lies, passes, ended_at = 4, 0, 1, None


def test_every_metric_is_listed_with_its_type_and_labels():
    metrics = Metrics(["/kms.v1.CryptoService/Encrypt"], "1")
    for source in (
        lambda: cache_metrics({"dek": Cache()}),
        lambda: health_metrics({"token": PartHealth(HealthStatus.HEALTHY)}),
        lambda: token_metrics({"unwrap": 1}, 0),
        lambda: schedule_metrics(ScheduleCounts()),
        lambda: security_event_metrics(Noticed()),
        lambda: sink_metrics([Told()]),
        lambda: audit_metrics(Written()),
        lambda: checkpoint_metrics(Sealed()),
        lambda: lease_metrics(1.0, 1),
        lambda: admission_metrics(FairAdmission(Limits(), lambda: 0)),
        lambda: scrub_metrics(Looked()),
        lambda: log_metrics(0),
    ):
        metrics.watch(source)
    metrics.values_processed("/kms.v1.CryptoService/Encrypt", 1)
    there = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        if family.name.startswith("kms_") and not family.name.endswith("_created"):
            assert family.samples, family.name
            there[family.name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    listed = {
        name.strip("`"): (kind, set(filter(None, labels.split(", ")))) for name, kind, labels, _ in rows("metric")
    }
    assert listed == there


def test_every_limit_that_refuses_is_listed():
    assert {name.strip("`") for name, *_ in rows("limit")} == set(Limit)


def test_every_event_of_the_scheduler_is_listed_with_its_level():
    said = set()
    for module in (due_keys, rotation):
        said |= set(re.findall(r'_log\.(\w+)\(\s*"([a-z_.]+)"', Path(str(module.__file__)).read_text()))
    said.remove(("exception", "schedule.failed"))  # a mistake of ours, with its trace
    assert {(level, name.strip("`")) for name, level, _ in rows("event")} == said


def test_every_exit_code_is_listed():
    assert [int(code) for code, _ in rows("code")] == sorted(ExitCode)


@pytest.mark.parametrize("command", ["init", "check", "serve", "migrate", "issue-cert", "revoke-cert"])
def test_every_command_is_mentioned(command):
    assert f"kmsd {command}" in PAGE.read_text()
