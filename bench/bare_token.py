"""What the token alone can do: unwrap DEKs under one KEK and wrap them under another, with python-pkcs11 and nothing else.

Reads a JSON object from standard input and prints how many seconds it took. The PIN comes that way, too.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from typing import Any

import pkcs11


def main() -> None:
    """Measure; the module may crash at exit, so that the process ends without one."""
    task = json.load(sys.stdin)
    token = pkcs11.lib(task["module"]).get_token(token_label=task["label"])
    session = token.open(rw=True, user_pin=task["pin"])
    old, new = (_kek(session, task[name]) for name in ("old", "new"))
    items = [tuple(bytes.fromhex(part) for part in item) for item in task["items"]]
    began = time.perf_counter()
    for iv, body, bound, new_bound in items:
        dek = old.decrypt(body, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=pkcs11.GCMParams(iv, bound, 128))
        new.encrypt(
            dek,
            mechanism=pkcs11.Mechanism.AES_GCM,
            mechanism_param=pkcs11.GCMParams(secrets.token_bytes(12), new_bound, 128),
        )
    print(time.perf_counter() - began, flush=True)
    os._exit(0)


def _kek(session: Any, id_: str) -> Any:
    return session.get_key(
        object_class=pkcs11.ObjectClass.SECRET_KEY, key_type=pkcs11.KeyType.AES, id=bytes.fromhex(id_)
    )


if __name__ == "__main__":
    main()
