"""The options for the rules of a policy, which a key may have otherwise, and for what only a policy demands."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from .choices import AuditContextChoice, ClassChoice, parse_period, parse_schedule

RotationOption = Annotated[
    timedelta | None,
    typer.Option(parser=parse_period, metavar="PERIOD", help="Such as 24h or 90d.", show_default=False),
]
ScheduleOption = Annotated[
    timedelta | None,
    typer.Option("--rotation-period", parser=parse_schedule, metavar="PERIOD", help="Or never.", show_default=False),
]
LimitOption = Annotated[int | None, typer.Option(min=0, help="Encryptions under one version.", show_default=False)]
CacheOption = Annotated[
    timedelta | None,
    typer.Option(
        parser=parse_period, metavar="PERIOD", help="How long a daemon keeps the key in memory.", show_default=False
    ),
]
QuarantineOption = Annotated[
    timedelta | None,
    typer.Option(
        parser=parse_period,
        metavar="PERIOD",
        help="Between a version's retirement and destruction.",
        show_default=False,
    ),
]
GraceOption = Annotated[
    timedelta | None,
    typer.Option(
        parser=parse_period,
        metavar="PERIOD",
        help="How long a replaced version may still encrypt, such as 10m.",
        show_default=False,
    ),
]
RetirementOption = Annotated[
    bool | None,
    typer.Option(help="Whether a version retires by itself once nothing is left under it.", show_default=False),
]
ClassOption = Annotated[
    ClassChoice | None, typer.Option(help="The class of the data; internal unless told.", show_default=False)
]
RequiredOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="A key that every context must have beyond those of the class; may be given more than once.",
        show_default=False,
    ),
]
AccessOption = Annotated[bool | None, typer.Option(help="Log each use of a key on its own.", show_default=False)]
AuditContextOption = Annotated[
    AuditContextChoice | None,
    typer.Option(help="How the audit trail shows values of contexts; hashed unless told.", show_default=False),
]
ApprovalsOption = Annotated[
    int | None, typer.Option(min=0, help="Approvals that dangerous operations need at least.", show_default=False)
]
