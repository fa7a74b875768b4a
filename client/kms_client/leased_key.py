"""One leased DEK: the cipher that it makes, until when that may be used, and how it is overwritten."""

from __future__ import annotations

from typing import Final, NoReturn, cast
from uuid import UUID

from .formats.aead import Xaes256Gcm
from .formats.ciphertext import Header
from .formats.dek import Dek
from .formats.errors import KmsError
from .formats.names import KeyUid, TenantUid
from .formats.suites import Suite
from .values import Lease

# Seconds by which a lease is used for less long than it is: between the last look at the clock and the moment at which the
# caller has the value the thread may have to wait for its turn, and clocks differ in rate (500 ppm of a minute are 0.03).
MARGIN: Final = 0.1
# In use, a lease is renewed when this part of it is over; where that fails, it is tried again after such a pause.
RENEWED_AFTER: Final = 1 / 2
PAUSE: Final = 1 / 8


class _Erasable(Dek):
    """A DEK in memory that its owner can overwrite."""

    __slots__ = ("_own",)

    def __init__(self, own: bytearray) -> None:
        super().__init__(bytes(len(own)))  # no copy: the bytes are given out below
        self._own = own

    def expose_secret_dek_material(self) -> bytes:
        """Return the memory itself, which ciphers read as they read bytes."""
        return cast("bytes", self._own)


class LeasedKey:
    """The DEK of one key version as a cipher; its memory is overwritten when nobody holds this any more.

    What is overwritten is the copy that lives as long as the lease. Those that gRPC and the interpreter made on the way are
    freed and not overwritten; subkeys lie in OpenSSL, which cleanses them.

    Attributes:
        version: the key version.
        encrypts: whether it is the one that encrypts, as far as is known now.
        uid: the key's, which the header of each of its ciphertexts names.
        tenant: the uid of the key's tenant, which every context has.
        ends: the moment of the boot-time clock from which on it is not used.
        renew_at: the moment from which on a use has it renewed.
        cipher: encrypts and decrypts whole ciphertexts (FORMATS section 2, suite 0x02).
        header: the 22 bytes of its ciphertexts.
    """

    __slots__ = (
        "__weakref__",
        "_material",
        "_pause",
        "cipher",
        "encrypts",
        "ends",
        "header",
        "renew_at",
        "tenant",
        "uid",
        "version",
    )

    def __init__(self, lease: Lease, began: float) -> None:
        """Take a lease that counts from *began*, a moment of the boot-time clock before it was asked for.

        A new one has a new nonce prefix (FORMATS section 2), so that none is used for longer than one lease.

        Raises:
            KmsError: a uid is none, or the DEK has not 32 bytes.
        """
        duration = lease.duration.total_seconds()
        self._material = bytearray(lease.key)
        self._pause = duration * PAUSE
        self.version, self.encrypts = lease.version, lease.encrypts
        self.ends = began + duration - MARGIN
        self.renew_at = began + duration * RENEWED_AFTER
        try:
            self.uid, self.tenant = KeyUid(UUID(lease.key_uid)), TenantUid(UUID(lease.tenant_uid))
            self.cipher = Xaes256Gcm(_Erasable(self._material))
        except ValueError as error:
            raise KmsError("the daemon answers with a lease that cannot be used") from error
        self.header = Header(Suite.XAES_256_GCM, self.uid, self.version).encode()

    def __del__(self) -> None:
        self._material[:] = bytes(len(self._material))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uid} version {self.version}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a leased key cannot be pickled or copied")

    def postpone(self, now: float) -> None:
        """Let some time pass before it is renewed, or tried to be, once more."""
        self.renew_at = now + self._pause

    def same(self, other: LeasedKey) -> bool:
        """Whether both are of one key version."""
        return (self.uid, self.version) == (other.uid, other.version)
