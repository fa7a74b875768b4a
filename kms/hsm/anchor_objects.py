"""Anchors as data objects of an open token; what is in them is the daemon's business (kms/core/anchors.py).

Application `kms-anchor`, label `<digest of the node>-<slot>`. A value is never changed in place: SoftHSM lets nobody, and a
write that is cut off would leave neither the old nor the new one. The new object is made first, then the old one goes.
"""

from __future__ import annotations

from typing import Any, Final

import pkcs11

from .bounds import MAX_ANCHOR, MAX_ANCHORS
from .module import OpenToken, Unusable, data_template

APPLICATION: Final = "kms-anchor"


class AnchorObjects:
    """The anchors in one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken) -> None:
        self._token = token

    def read(self) -> list[tuple[str, bytes]]:
        """Return the label and value of each, in no order; a slot that a crash has left twice is there twice.

        Raises:
            Unusable: there are too many.
        """
        found = self._find()
        if len(found) > MAX_ANCHORS:
            raise Unusable(f"the token holds {len(found)} anchors, more than {MAX_ANCHORS}")
        return [(entry[pkcs11.Attribute.LABEL], entry[pkcs11.Attribute.VALUE]) for entry in found]

    def write(self, label: str, value: bytes) -> None:
        """Put a value into a slot: the token shows the old one, both, or the new one, whenever it is interrupted.

        Raises:
            Unusable: the token takes no data objects, or the value is too long, or it is not there afterwards.
        """
        if not self._token.abilities.data_objects:
            raise Unusable("the token takes no data objects")
        if len(value) > MAX_ANCHOR:
            raise Unusable(f"an anchor has at most {MAX_ANCHOR} bytes")
        old = self._find(label)
        self._token.session.create_object(data_template(APPLICATION, label, value, stored=True))
        if value not in [entry[pkcs11.Attribute.VALUE] for entry in self._find(label)]:
            raise Unusable("the token does not show the anchor that it was given")
        for entry in old:
            entry.destroy()

    def _find(self, label: str | None = None) -> list[Any]:
        wanted: dict[pkcs11.Attribute, object] = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.DATA,
            pkcs11.Attribute.TOKEN: True,
            pkcs11.Attribute.APPLICATION: APPLICATION,
        }
        if label is not None:
            wanted[pkcs11.Attribute.LABEL] = label
        return list(self._token.session.get_objects(wanted))  # all of them: an open search is in the way of reading
