"""The handle in which a DEK moves through the daemon: it shows nothing, and its bytes come out in one way only."""

from __future__ import annotations

from typing import Final, NoReturn

DEK_LENGTHS: Final = frozenset({32, 64})  # bytes


class Dek:
    """Key material of 32 or 64 bytes.

    It does not print, pickle, copy, compare or hash: `==` raises, since neither answer would be right. Comparing
    bytes with `==` tells by its time where they differ, and comparing identities calls equal keys unequal.

    The interpreter cannot wipe the bytes; they stay in memory until it uses the place again.
    """

    __slots__ = ("__material",)

    def __init__(self, material: bytes) -> None:
        if len(material) not in DEK_LENGTHS:
            raise ValueError("a DEK has 32 or 64 bytes")
        self.__material = bytes(material)

    def expose_secret_dek_material(self) -> bytes:
        """Return the bytes, for a cipher or a wrap; an architecture test lists the callers."""
        return self.__material

    def __len__(self) -> int:
        return len(self.__material)

    def __repr__(self) -> str:
        return f"<Dek of {len(self)} bytes>"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a Dek cannot be compared")

    __hash__ = None  # type: ignore[assignment]  # the standard way to say that there is no hash

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # copy, deepcopy and pickle all come here.
        raise TypeError("a Dek cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Dek has no state to take")

    def __setattr__(self, name: str, value: object) -> None:
        # Set once, by __init__.
        if hasattr(self, name):
            raise AttributeError("a Dek cannot be changed")
        super().__setattr__(name, value)
