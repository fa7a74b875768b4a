"""The TPM dies at each command of each operation: nothing that was given out is taken back, and all goes on after it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from enclave.errors import EnclaveError, InvalidParameter, UnknownCounter
from enclave.interface import Policy
from enclave.tpm_release import parse_release, sign_release
from tests.enclave_platforms import measurement
from tests.swtpm import MISSING, WHY_NOT
from tests.tpm_listener import Listener

pytestmark = pytest.mark.skipif(bool(MISSING), reason=WHY_NOT)

if not MISSING:
    from tpm2_pytss.ESAPI import ESAPI

    from enclave.tpm import TpmEnclave
    from enclave.tpm_device import FIRST_COUNTER, Tpm
    from tests.tpm_platform import TpmPlatform, approver

MOST = 40  # commands of one operation


@pytest.fixture
def platform() -> Iterator[TpmPlatform]:
    made = TpmPlatform()
    yield made
    made.close()


class Killer:
    """Kills the TPM before it gets a command of the given number."""

    def __init__(self, platform: TpmPlatform) -> None:
        self._platform = platform
        self._left: int | None = None

    def arm(self, number: int | None) -> None:
        self._left = number

    def __call__(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._platform.swtpm.stop(signal.SIGKILL)


def each_kill(platform: TpmPlatform, run: Callable[[TpmEnclave], object]) -> Iterator[tuple[object, TpmEnclave]]:
    """Give, for a kill before each command of *run*, what it came to, and the enclave of after a restart."""
    killer = Killer(platform)
    with Listener(platform.swtpm.socket, platform.swtpm.directory, killer) as listener:
        for number in range(MOST):
            platform.disconnect()
            platform.swtpm.restart(signal.SIGKILL)
            device = Tpm(f"swtpm:path={listener.socket}", platform.pins.storage_root)
            try:
                structure = sign_release(measurement("E1"), 1, 5, approver("S1"))
                enclave = TpmEnclave(device, parse_release(structure, measurement("E1")))
                killer.arm(number)
                try:
                    outcome: object = run(enclave)
                except EnclaveError as error:
                    outcome = error
            finally:
                killer.arm(None)
                device.close()
            yield outcome, platform.start()
            if not isinstance(outcome, EnclaveError):
                assert number > 2  # it came to its end once all its commands were let through, and not before
                return
    raise AssertionError("it has more commands than were tried")


def test_a_counter_never_goes_back_and_never_more_than_one_ahead(platform):
    value = platform.start().create_counter("anchor")
    for outcome, after in each_kill(platform, lambda enclave: enclave.increment_counter("anchor")):
        now = after.read_counter("anchor")
        if isinstance(outcome, EnclaveError):
            assert outcome.code == "COUNTER_FAULT"
            assert now in {value, value + 1}  # not given out, and perhaps counted
        else:
            assert now == outcome == value + 1
        value = now


def test_a_counter_is_there_or_is_not_and_can_be_made_anew(platform):
    highest = 0
    for outcome, after in each_kill(platform, lambda enclave: enclave.create_counter("anchor")):
        try:
            value = after.read_counter("anchor")
        except UnknownCounter:
            assert isinstance(outcome, EnclaveError)
            value = after.create_counter("anchor")
        assert value > highest
        with pytest.raises(InvalidParameter, match="there is one of this name"):
            after.create_counter("anchor")
        highest = after.increment_counter("anchor")
        assert highest == value + 1
        assert list(platform.tpm.find_counters().values()) == [FIRST_COUNTER]
        platform.disconnect()
        esapi = ESAPI(platform.swtpm.tcti)
        esapi.nv_undefine_space(esapi.tr_from_tpmpublic(FIRST_COUNTER))
        esapi.close()


def test_what_was_sealed_stays_and_a_call_without_its_tpm_is_one_clear_error(platform):
    blob = platform.start().seal(b"data", Policy.HYBRID, b"")

    def everything(enclave: TpmEnclave) -> bytes:
        assert enclave.unseal(blob, b"") == b"data"
        return enclave.seal(b"more", Policy.MRENCLAVE, b"")

    for outcome, after in each_kill(platform, everything):
        assert after.unseal(blob, b"") == b"data"
        if isinstance(outcome, EnclaveError):
            assert outcome.code == "PLATFORM_FAULT"
        else:
            assert after.unseal(outcome, b"") == b"more"
