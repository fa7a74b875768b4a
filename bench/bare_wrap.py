"""What the token alone can do for a rotation: random bytes, and wrapping them, with python-pkcs11 and nothing else.

Reads a JSON object from standard input, then a number a line: how many to make. Answers each with the seconds it took.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time

import pkcs11


def main() -> None:
    """Measure; the module may crash at exit, so that the process ends without one."""
    task = json.loads(sys.stdin.readline())
    token = pkcs11.lib(task["module"]).get_token(token_label=task["label"])
    session = token.open(rw=True, user_pin=task["pin"])
    kek = session.get_key(
        object_class=pkcs11.ObjectClass.SECRET_KEY, key_type=pkcs11.KeyType.AES, id=bytes.fromhex(task["kek"])
    )
    bound = bytes(110)  # about as long as a wrap's binding (FORMATS, section 5)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            dek = session.generate_random(256)
            kek.encrypt(
                dek,
                mechanism=pkcs11.Mechanism.AES_GCM,
                mechanism_param=pkcs11.GCMParams(secrets.token_bytes(12), bound, 128),
            )
        print(time.perf_counter() - began, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
