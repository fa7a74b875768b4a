"""Runs ciphers of a SoftHSM token over cases from standard input, in a process of its own: the module stays out of
the test run.

A line in is JSON: operation, key, and its other arguments, bytes in hex. A line out is the result, null for a failure.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error


def make_key(session: pkcs11.Session, kind: KeyType, value: bytes, *uses: Attribute) -> Any:
    """Put a key of known value into the session."""
    return session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: kind,
            Attribute.VALUE: value,
            Attribute.TOKEN: False,
            Attribute.SENSITIVE: False,
            Attribute.EXTRACTABLE: True,
            **dict.fromkeys(uses, True),
        }
    )


def gcm_encrypt(session: pkcs11.Session, key: bytes, iv: bytes, aad: bytes, data: bytes) -> bytes:
    aes = make_key(session, KeyType.AES, key, Attribute.ENCRYPT)
    return bytes(aes.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(iv, aad, 128)))


def gcm_decrypt(session: pkcs11.Session, key: bytes, iv: bytes, aad: bytes, data: bytes) -> bytes:
    aes = make_key(session, KeyType.AES, key, Attribute.DECRYPT)
    return bytes(aes.decrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(iv, aad, 128)))


def kw_wrap(session: pkcs11.Session, key: bytes, data: bytes) -> bytes:
    aes = make_key(session, KeyType.AES, key, Attribute.WRAP)
    return bytes(aes.wrap_key(make_key(session, KeyType.GENERIC_SECRET, data), mechanism=Mechanism.AES_KEY_WRAP))


def kw_unwrap(session: pkcs11.Session, key: bytes, data: bytes) -> bytes:
    aes = make_key(session, KeyType.AES, key, Attribute.UNWRAP)
    found = aes.unwrap_key(
        ObjectClass.SECRET_KEY,
        KeyType.GENERIC_SECRET,
        data,
        mechanism=Mechanism.AES_KEY_WRAP,
        store=False,
        template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
    )
    return bytes(found[Attribute.VALUE])


OPERATIONS = {call.__name__: call for call in (gcm_encrypt, gcm_decrypt, kw_wrap, kw_unwrap)}


def main() -> None:
    module, label = sys.argv[1:]
    token = pkcs11.lib(module).get_token(token_label=label)
    with token.open(rw=True, user_pin=os.environ["TOKEN_PIN"]) as session:
        for line in sys.stdin:
            operation, *arguments = json.loads(line)
            try:
                result = OPERATIONS[operation](session, *map(bytes.fromhex, arguments)).hex()
            except PKCS11Error:
                result = None
            print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
