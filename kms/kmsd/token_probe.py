"""The child that looks at a PKCS#11 module for `kmsd check`: a module that crashes or hangs takes nobody with it.

Reads {"module", "label", "pin" or null} as JSON from standard input; answers {"labels", "flags", "login"} as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import pkcs11

_TELLING: Final = (
    pkcs11.TokenFlag.USER_PIN_INITIALIZED,
    pkcs11.TokenFlag.USER_PIN_COUNT_LOW,
    pkcs11.TokenFlag.USER_PIN_FINAL_TRY,
    pkcs11.TokenFlag.USER_PIN_LOCKED,
)


def look(order: dict[str, Any]) -> dict[str, Any]:
    """Return the labels of all tokens, the telling flags of the one that was asked for, and how a login went."""
    tokens = [slot.get_token() for slot in pkcs11.lib(order["module"]).get_slots(token_present=True)]
    initialised = [token for token in tokens if pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags]
    found = [token for token in initialised if token.label == order["label"]]
    answer: dict[str, Any] = {"labels": [token.label for token in initialised], "flags": [], "login": None}
    if len(found) == 1:
        answer["flags"] = [flag.name for flag in _TELLING if flag in found[0].flags]
        last_try = pkcs11.TokenFlag.USER_PIN_FINAL_TRY in found[0].flags
        if order["pin"] is not None and not last_try:
            answer["login"] = _login(found[0], order["pin"])
    return answer


def _login(token: Any, pin: str) -> str:
    try:
        with token.open(user_pin=pin):
            return "ok"
    except pkcs11.PKCS11Error as error:
        return type(error).__name__


def main() -> None:
    """Answer one order."""
    try:
        answer = look(json.load(sys.stdin))
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # modules crash in their own clean-up (SoftHSM 2.6.1 after OpenSSL's)


if __name__ == "__main__":
    main()
