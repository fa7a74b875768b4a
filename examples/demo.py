"""The whole story on one machine: a token, a daemon, a database with people in it, and what happens to their data.

Run it with scripts/demo. It sets everything up in a temporary directory and stops what it started.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kms_client import Client
from kms_client.formats.ciphertext import Header, to_text
from kms_client.formats.errors import CannotDecrypt, KmsError, NotFound
from kms_client.formats.suites import Purpose
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.neo_service_layer.users import COLUMNS, RANDOMIZED, SCHEMA, SEARCHABLE, rows

TENANT: Final = "tenants/acme"
RANDOMIZED_KEY: Final = f"{TENANT}/keys/users"
SEARCHABLE_KEY: Final = f"{TENANT}/keys/users-search"
PROTECTED: Final = (*SEARCHABLE, *RANDOMIZED)
BATCH: Final = 5_000  # rows
BY_ITSELF = {"rewrap", "sign", "write_anchor"}  # operations of the token that no caller asks for here
SHOWN: Final = ("email", "mfa_secret_encrypted", "first_name_encrypted", "phone_encrypted")

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the users table (default 100,000)")
    arguments = parser.parse_args()
    if arguments.rows < 10:
        parser.error("--rows must be at least 10")
    directory = Path(tempfile.mkdtemp(prefix="kms-demo-"))
    try:
        tell(directory, arguments.rows)
    finally:
        shutil.rmtree(directory)


def tell(directory: Path, count: int) -> None:  # noqa: PLR0915  a story is told in one go
    """Set up, protect, rotate, attack, clean up."""
    home = directory / "kms"
    step(1, "Set up a token, a database, certificates: kmsd init")
    run("kmsd", "init", str(home), "--address", f"127.0.0.1:{free_port()}")
    metrics = add_metrics(home / "kmsd.toml")
    console.print(f"  token, data, secrets and configuration are in {home}")

    step(2, "Start the daemon: kmsd serve")
    with daemon(home), sqlite3.connect(directory / "application.db") as database:
        with Client.from_profile(home / "kms.toml") as operator:
            for tenant in ("acme", "globex"):
                operator.create_tenant(tenant)
        console.print("  it serves on mutual TLS; its KEKs never leave the token")
        with client_of(home, "acme") as acme, client_of(home, "globex") as globex:
            acme.create_key(TENANT, "users", purpose=Purpose.ENCRYPT)
            acme.create_key(TENANT, "users-search", purpose=Purpose.DETERMINISTIC)
            globex.create_key("tenants/globex", "users", purpose=Purpose.ENCRYPT)
            console.print(
                "  tenants acme and globex, each with a KEK in the token; keys users and users-search for acme"
            )

            step(3, f"An application's table: {count:,} users, in the clear")
            digest = load(database, count)
            sample = database.execute("SELECT id FROM users WHERE first_name_encrypted <> '' LIMIT 1").fetchone()[0]
            show(database, sample, "before")

            step(4, f"Protect {len(PROTECTED)} columns, {BATCH:,} rows at a time")
            before = token_operations(metrics)
            values = protect(acme, database, count)
            calls = difference(token_operations(metrics), before)
            console.print(f"  {values:,} values encrypted with {sum(calls.values())} token operations {calls or ''}")
            show(database, sample, "as stored")
            search(acme, database)

            step(5, "Rotate the key and the KEK; old rows and new ones decrypt")
            before = token_operations(metrics)
            key = acme.rotate_key(RANDOMIZED_KEY)
            kek = acme.rotate_kek(TENANT)
            add_user(acme, database)
            console.print(f"  primary versions are now: key {key.primary_version}, KEK {kek.version}")
            found, versions = read_all(acme, database, count)
            calls = difference(token_operations(metrics), before)
            if found != digest:
                raise SystemExit("the decrypted table is not the one that was loaded")
            console.print(f"  all {count:,} rows decrypt to exactly what was loaded: SHA-256 {digest[:16]}...")
            console.print(f"  values by key version {versions}; {sum(calls.values())} token operations {calls or ''}")
            moved = reencrypt(acme, database, count)
            found, versions = read_all(acme, database, count)
            console.print(f"  {moved:,} values brought to version {key.primary_version}: now {versions}")
            if found != digest:
                raise SystemExit("the re-encrypted table is not the one that was loaded")
            show(database, sample, "and back, through the daemon", acme)

            step(6, "Attack it")
            attack(acme, globex, database, sample)

        step(7, "Stop the daemon")
    console.print("  stopped, and the directory is removed\n")
    console.print("[bold]What to try next[/bold]")
    console.print("  kmsd init DIR; kmsd serve --config DIR/kmsd.toml      an installation to keep")
    console.print("  KMS_PROFILE=DIR/kms.toml kms tenants create acme      the staff command; kms --help, kms doctor")
    console.print("  README.md, A first program                            the SDK in fifteen lines")
    console.print("  bench/run                                             how fast it is here")


def load(database: sqlite3.Connection, count: int) -> str:
    """Load the table; returns the SHA-256 of its protected values."""
    database.executescript(SCHEMA.read_text())
    digest = hashlib.sha256()
    marks = ", ".join(f":{column}" for column in COLUMNS)

    def loaded() -> Iterator[dict[str, str | int | bytes | None]]:
        for row in rows(count):
            digest.update(repr([row[column] for column in PROTECTED]).encode())
            yield row

    with database:
        database.executemany(f"INSERT INTO users ({', '.join(COLUMNS)}) VALUES ({marks})", loaded())  # noqa: S608
    return digest.hexdigest()


def batches(
    database: sqlite3.Connection, columns: Sequence[str]
) -> Iterator[list[tuple[int, str, list[bytes | None]]]]:
    """Yield rowid, id and the columns of all rows in the order in which they were loaded."""
    last = 0
    while True:
        found = database.execute(
            f"SELECT rowid, id, {', '.join(columns)} FROM users WHERE rowid > ? ORDER BY rowid LIMIT ?",  # noqa: S608
            (last, BATCH),
        ).fetchall()
        if not found:
            return
        last = found[-1][0]
        yield [(row[0], row[1], list(row[2:])) for row in found]


Transform = Callable[[str, list[bytes], list[str]], Sequence[bytes]]


def each_column(batch: list[tuple[int, str, list[bytes | None]]], columns: Sequence[str], transform: Transform) -> int:
    """Put *transform* of each column in its place; NULL stays NULL. Returns how many values there were."""
    values = 0
    for index, column in enumerate(columns):
        present = [row for row in batch if row[2][index] is not None]
        given = [value for row in present if (value := row[2][index]) is not None]
        if given:
            for row, made in zip(present, transform(column, given, [row[1] for row in present]), strict=True):
                row[2][index] = made
        values += len(given)
    return values


def key_and_place(column: str, ids: list[str]) -> tuple[str, dict[str, str], tuple[str, list[str]] | None]:
    """Return the key of a column and the context of its values: table and column, and the row where it may differ."""
    place = {"table": "users", "column": column}
    if column in SEARCHABLE:
        return SEARCHABLE_KEY, place, None
    return RANDOMIZED_KEY, place, ("row", ids)


def protect(client: Client, database: sqlite3.Connection, count: int) -> int:
    """Encrypt every protected column in place; returns the number of values."""

    def encrypt(column: str, values: list[bytes], ids: list[str]) -> Sequence[bytes]:
        key, place, varying = key_and_place(column, ids)
        return client.encrypt_batch(key, values, context=place, varying=varying).complete()

    return rewrite(database, count, PROTECTED, encrypt, "encrypting")


def reencrypt(client: Client, database: sqlite3.Connection, count: int) -> int:
    """Bring the randomized columns to the primary version; returns how many values were of an older one."""
    changed = 0

    def bring(column: str, values: list[bytes], ids: list[str]) -> Sequence[bytes]:
        nonlocal changed
        key, place, varying = key_and_place(column, ids)
        made = client.reencrypt_batch(key, values, context=place, varying=varying)
        changed += made.changed
        return made.complete()

    rewrite(database, count, RANDOMIZED, bring, "re-encrypting")
    return changed


def rewrite(database: sqlite3.Connection, count: int, columns: Sequence[str], transform: Transform, verb: str) -> int:
    """Rewrite columns of all rows, a batch a transaction; returns the number of values."""
    assignments = ", ".join(f"{column} = ?" for column in columns)
    values = 0
    with bar(verb, count) as advance:
        for batch in batches(database, columns):
            values += each_column(batch, columns, transform)
            with database:
                database.executemany(
                    f"UPDATE users SET {assignments} WHERE rowid = ?",  # noqa: S608
                    [(*cells, rowid) for rowid, _, cells in batch],
                )
            advance(len(batch))
    return values


def read_all(client: Client, database: sqlite3.Connection, count: int) -> tuple[str, dict[int, int]]:
    """Decrypt the rows that were loaded; returns their SHA-256, and how many randomized values each version protects."""
    digest = hashlib.sha256()
    versions: dict[int, int] = {}

    def decrypt(column: str, values: list[bytes], ids: list[str]) -> Sequence[bytes]:
        key, place, varying = key_and_place(column, ids)
        if column in RANDOMIZED:
            for value in values:
                version = Header.read(value).version
                versions[version] = versions.get(version, 0) + 1
        return client.decrypt_batch(key, values, context=place, varying=varying).complete()

    with bar("decrypting", count) as advance:
        for batch in batches(database, PROTECTED):
            each_column(batch, PROTECTED, decrypt)
            for rowid, _, cells in batch:
                if rowid <= count:
                    digest.update(repr(cells).encode())
            advance(len(batch))
    return digest.hexdigest(), versions


def add_user(client: Client, database: sqlite3.Connection) -> None:
    """Insert one more user, encrypted under the new version."""
    row = next(rows(1, seed=7))
    row["username"], row["email"] = b"newcomer", b"newcomer@example.org"
    cells: list[bytes | None] = [value if isinstance(value := row[c], bytes) else None for c in PROTECTED]
    batch = [(0, str(row["id"]), cells)]

    def encrypt(column: str, values: list[bytes], ids: list[str]) -> Sequence[bytes]:
        key, place, varying = key_and_place(column, ids)
        return client.encrypt_batch(key, values, context=place, varying=varying).complete()

    each_column(batch, PROTECTED, encrypt)
    row.update(zip(PROTECTED, batch[0][2], strict=True))
    with database:
        marks = ", ".join(f":{column}" for column in COLUMNS)
        database.execute(f"INSERT INTO users ({', '.join(COLUMNS)}) VALUES ({marks})", row)  # noqa: S608


def search(client: Client, database: sqlite3.Connection) -> None:
    """Find a row by its e-mail address, which the database holds encrypted only."""
    wanted = client.encrypt(SEARCHABLE_KEY, b"ana.lima@example.org", context={"table": "users", "column": "email"})
    found = database.execute("SELECT count(*) FROM users WHERE email = ?", (wanted.ciphertext,)).fetchone()[0]
    console.print(f"  WHERE email = <ana.lima@example.org, encrypted> finds {found} row; the database saw no address")


def attack(acme: Client, globex: Client, database: sqlite3.Connection, row: str) -> None:
    """Try what an attacker with the database would try; each must be refused."""
    stored = database.execute("SELECT phone_encrypted FROM users WHERE id = ?", (row,)).fetchone()[0]
    place = {"table": "users", "column": "phone_encrypted", "row": row}
    if not acme.decrypt(RANDOMIZED_KEY, stored, context=place).plaintext:
        raise SystemExit("the sample row does not decrypt")
    tampered = stored[:-1] + bytes([stored[-1] ^ 1])
    attempts: list[tuple[str, Callable[[], object], type[KmsError]]] = [
        (
            "one bit of the ciphertext flipped",
            lambda: acme.decrypt(RANDOMIZED_KEY, tampered, context=place),
            CannotDecrypt,
        ),
        (
            "the value moved to another column",
            lambda: acme.decrypt(RANDOMIZED_KEY, stored, context={**place, "column": "first_name_encrypted"}),
            CannotDecrypt,
        ),
        (
            "the value moved to another row",
            lambda: acme.decrypt(RANDOMIZED_KEY, stored, context={**place, "row": "another"}),
            CannotDecrypt,
        ),
        (
            "tenant globex decrypts it with a key of its own",
            lambda: globex.decrypt("tenants/globex/keys/users", stored, context=place),
            CannotDecrypt,
        ),
        (
            "tenant globex decrypts it with acme's key",
            lambda: globex.decrypt(RANDOMIZED_KEY, stored, context=place),
            NotFound,
        ),
    ]
    for what, attempt, expected in attempts:
        try:
            attempt()
        except expected as refusal:
            console.print(f"  {what}: [green]refused[/green] ({refusal.reason})")
        else:
            raise SystemExit(f"{what}: was not refused")


def show(database: sqlite3.Connection, row: str, title: str, client: Client | None = None) -> None:
    """Print a few columns of one row; through *client* where one is given."""
    table = Table(title=f"one row, {title}", title_justify="left", show_header=False, box=None, padding=(0, 2))
    cells = database.execute(f"SELECT {', '.join(SHOWN)} FROM users WHERE id = ?", (row,)).fetchone()  # noqa: S608
    for column, cell in zip(SHOWN, cells, strict=True):
        value = cell
        if client is not None and value is not None:
            key, place, varying = key_and_place(column, [row])
            value = client.decrypt_batch(key, [value], context=place, varying=varying).complete()[0]
        table.add_row(column, readable(value))
    console.print(table)


def readable(value: bytes | None) -> str:
    """Return plaintext as it is and a ciphertext in its text form, cut to the line."""
    if value is None:
        return "NULL"
    try:
        Header.parse(value)
    except KmsError:
        return value.decode()[:60]
    return to_text(value)[:44] + f"... ({len(value)} bytes)"


def step(number: int, title: str) -> None:
    """Print a headline."""
    console.print(f"\n[bold]{number}. {title}[/bold]")


@contextmanager
def bar(verb: str, count: int) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal; a line at the end everywhere."""
    started = time.perf_counter()
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(verb, total=count)
        yield lambda rows_done: progress.advance(task, rows_done)
    seconds = time.perf_counter() - started
    console.print(f"  {verb} took {seconds:.1f} s, database included: {count / seconds:,.0f} rows/s")


def run(*command: str) -> None:
    """Run one of our commands from the environment that runs this program."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def daemon(home: Path) -> Iterator[None]:
    """Run the daemon for the time of the block."""
    program = Path(sys.executable).with_name("kmsd")
    with (home.parent / "daemon.log").open("w") as log:
        process = subprocess.Popen([program, "serve", "--config", home / "kmsd.toml"], stderr=log)
    try:
        wait_until_serving(home, process)
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_until_serving(home: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for the daemon's first answer."""
    end = time.monotonic() + 30
    with Client.from_profile(home / "kms.toml") as client:
        while True:
            try:
                client.health(deadline=1)
            except KmsError as error:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"kmsd serve: {(home.parent / 'daemon.log').read_text()}") from error
                time.sleep(0.05)
            else:
                return


def client_of(home: Path, tenant: str) -> Client:
    """Issue a certificate for an application of a tenant and connect with it."""
    out = home.parent / f"client-{tenant}"
    principal = f"tenants/{tenant}/principals/application"
    run("kmsd", "issue-cert", "--config", str(home / "kmsd.toml"), principal, "--out", str(out))
    return Client.from_profile(out / "kms.toml", deadline=60)


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def add_metrics(config: Path) -> str:
    """Let the daemon tell its metrics; returns their URL."""
    address = f"127.0.0.1:{free_port()}"
    config.write_text(config.read_text() + f'\n[metrics]\naddress = "{address}"\n')
    return f"http://{address}/metrics"


def token_operations(url: str) -> dict[str, int]:
    """Return how often each kind of operation has been asked of the token for callers so far.

    What goes on by itself is left out: re-wrapping after the rotation of a KEK, once for each key version, and the checkpoints of
    the audit trail, every ten seconds.
    """
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  our own address
        lines = response.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("kms_token_operations_total{"):
            label, value = line.removeprefix("kms_token_operations_total").rsplit(" ", 1)
            found[json.loads(label.partition("=")[2].rstrip("}"))] = int(float(value))
    return {kind: count for kind, count in found.items() if kind not in BY_ITSELF}


def difference(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """Return what has been added since."""
    return {kind: count - before.get(kind, 0) for kind, count in now.items() if count != before.get(kind, 0)}


if __name__ == "__main__":
    main()
