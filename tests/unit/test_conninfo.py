import pytest

from storage.conninfo import database_name, parameters
from storage.errors import CannotOpen


def test_the_operators_parameters_win_over_defaults_but_not_over_bounds():
    given = parameters(
        "postgresql://u:p@db.example:6432/kms?keepalives_idle=60&connect_timeout=600&sslmode=verify-full"
    )
    assert given["keepalives_idle"] == "60"
    assert given["sslmode"] == "verify-full"
    assert given["connect_timeout"] == 2
    assert given["client_encoding"] == "UTF8"
    assert given["application_name"] == "kmsd"


def test_a_database_is_named_without_its_password():
    name = database_name("postgresql://user:geheim@db.example/kms")
    assert name == "kms on db.example"


@pytest.mark.parametrize(
    "url",
    ["postgresql://user:geheim@[bad", "dbname=x geheim", "postgresql://user:gehe@im@host/kms", "geheim"],
)
def test_what_is_no_connection_string_is_refused_without_repeating_it(url):
    with pytest.raises(CannotOpen, match="percent-encoded") as refusal:
        parameters(url)
    seen = f"{refusal.value!r} {refusal.value.__context__!r} {refusal.value.__cause__!r}"
    assert "gehe" not in seen
