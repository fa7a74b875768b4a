"""The token host over a module that misbehaves: functions of SoftHSM's table are replaced before it is loaded.

ALTERATION in the environment is a list of `name` or `name=file`, separated by commas:

    logins=F      every C_Login adds a byte to F
    held-login=F  C_Login waits until F is there; while it waits, F.waiting holds the process id
    code=F        while F is there, C_GenerateRandom answers the error code in it
    no-decrypt=F  while F is there, C_Decrypt answers CKR_GENERAL_ERROR
    slow-decrypt  C_Decrypt takes 50 ms
    sticky-error  C_Decrypt leaves its session with an active operation when it fails
    no-destroy=F  while F is there, C_DestroyObject answers CKR_GENERAL_ERROR
    sham-destroy=F  while F is there, C_DestroyObject does nothing and says that it did
    own-iv        C_EncryptInit refuses an IV for AES-GCM and writes its own over zeros
    zero-iv       C_EncryptInit refuses an IV for AES-GCM and takes the zeros
    crash         C_GenerateRandom of 77 bytes crashes
    hang          C_GenerateRandom of 78 bytes never comes back
    no-gcm        the module has no AES-GCM
    no-data       C_CreateObject refuses data objects
    data-dies=F   while F is there, C_CreateObject of a stored data object makes it, and kills the process before it answers
    keep-data=F   while F is there, C_DestroyObject kills the process before it destroys anything
    no-attribute  C_GenerateKey refuses CKA_ALLOWED_MECHANISMS and CKA_COPYABLE
    final-try     C_GetTokenInfo says that one more wrong PIN locks the token
"""

import ctypes
import os
import signal
import time
from pathlib import Path

import pkcs11

from kms.hsm import module, token_host

GCM = 0x1087
OPERATION_ACTIVE = 0x90
GENERAL_ERROR, MECHANISM_INVALID, MECHANISM_PARAM_INVALID, ATTRIBUTE_TYPE_INVALID = 0x05, 0x70, 0x71, 0x12
ALLOWED_MECHANISMS, COPYABLE = 0x40000600, 0x171
USER_PIN_FINAL_TRY = 0x20000

ulong, pointer = ctypes.c_ulong, ctypes.c_void_p

# The place of each function in CK_FUNCTION_LIST, and its arguments.
FUNCTIONS = {
    "C_GetTokenInfo": (6, (ulong, pointer)),
    "C_CreateObject": (20, (ulong, pointer, ulong, pointer)),
    "C_DestroyObject": (22, (ulong, ulong)),
    "C_Login": (18, (ulong, ulong, pointer, ulong)),
    "C_EncryptInit": (29, (ulong, pointer, ulong)),
    "C_DecryptInit": (33, (ulong, pointer, ulong)),
    "C_Decrypt": (34, (ulong, pointer, ulong, pointer, pointer)),
    "C_GenerateKey": (58, (ulong, pointer, pointer, ulong, pointer)),
    "C_GenerateRandom": (64, (ulong, pointer, ulong)),
}

kept = []  # ctypes must not free what the table points to


class Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", ulong), ("parameter", pointer), ("length", ulong))


class Attribute(ctypes.Structure):
    _fields_ = (("type", ulong), ("value", pointer), ("length", ulong))


def replace(library, name, make) -> None:
    table = pointer()
    library.C_GetFunctionList(ctypes.byref(table))
    place, arguments = FUNCTIONS[name]
    slot = pointer.from_address(table.value + 8 + 8 * place)
    kind = ctypes.CFUNCTYPE(ulong, *arguments)
    callback = kind(make(kind(slot.value)))
    kept.append((library, callback))
    slot.value = ctypes.cast(callback, pointer).value


def logins(path):
    def make(real):
        def login(*arguments):
            with path.open("ab") as file:
                file.write(b".")
            return real(*arguments)

        return login

    return {"C_Login": make}


def held_login(path):
    def make(real):
        def login(*arguments):
            Path(f"{path}.waiting").write_text(str(os.getpid()))
            while not path.exists():
                time.sleep(0.005)
            return real(*arguments)

        return login

    return {"C_Login": make}


def code(path):
    def make(real):
        return lambda *arguments: int(path.read_text()) if path.exists() else real(*arguments)

    return {"C_GenerateRandom": make}


def no_decrypt(path):
    def make(real):
        return lambda *arguments: GENERAL_ERROR if path.exists() else real(*arguments)

    return {"C_Decrypt": make}


def slow_decrypt(real):
    def decrypt(*arguments):
        if arguments[3]:  # not while it is asked how long the answer will be
            time.sleep(0.05)
        return real(*arguments)

    return decrypt


def sticky_error():
    stuck = set()

    def make_decrypt(real):
        def decrypt(session, *arguments):
            result = real(session, *arguments)
            if result:
                stuck.add(session)
            return result

        return decrypt

    def make_init(real):
        return lambda session, *arguments: OPERATION_ACTIVE if session in stuck else real(session, *arguments)

    return {"C_Decrypt": make_decrypt, "C_DecryptInit": make_init}


def destroy(path, result):
    def make(real):
        return lambda *arguments: result if path.exists() else real(*arguments)

    return {"C_DestroyObject": make}


def iv(write):
    def make(real):
        def encrypt_init(session, mechanism, key):
            found = Mechanism.from_address(mechanism)
            if found.mechanism == GCM:
                place = pointer.from_address(found.parameter).value
                if any(ctypes.string_at(place, 12)):
                    return MECHANISM_PARAM_INVALID
                if write:
                    ctypes.memmove(place, os.urandom(12), 12)
            return real(session, mechanism, key)

        return encrypt_init

    return {"C_EncryptInit": make}


def no_gcm(real):
    def encrypt_init(session, mechanism, key):
        return (
            MECHANISM_INVALID if Mechanism.from_address(mechanism).mechanism == GCM else real(session, mechanism, key)
        )

    return encrypt_init


def no_attribute(real):
    def generate_key(session, mechanism, template, count, key):
        types = [attribute.type for attribute in (Attribute * count).from_address(template)]
        if ALLOWED_MECHANISMS in types or COPYABLE in types:
            return ATTRIBUTE_TYPE_INVALID
        return real(session, mechanism, template, count, key)

    return generate_key


def is_data(template, count) -> bool:
    """Whether a template is of a stored data object: CKA_CLASS (0) is CKO_DATA (0), CKA_TOKEN (1) is true."""
    found = {}
    for attribute in (Attribute * count).from_address(template):
        if attribute.type in (0, 1):
            found[attribute.type] = any(ctypes.string_at(attribute.value, attribute.length))
    return found == {0: False, 1: True}


def no_data(real):
    def create_object(session, template, count, handle):
        types = {attribute.type: attribute for attribute in (Attribute * count).from_address(template)}
        if not any(ctypes.string_at(types[0].value, types[0].length)):
            return ATTRIBUTE_TYPE_INVALID
        return real(session, template, count, handle)

    return create_object


def data_dies(path):
    def make(real):
        def create_object(session, template, count, handle):
            result = real(session, template, count, handle)
            if path.exists() and is_data(template, count):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return create_object

    return {"C_CreateObject": make}


def keep_data(path):
    def make(real):
        def destroy_object(session, handle):
            if path.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            return real(session, handle)

        return destroy_object

    return {"C_DestroyObject": make}


def final_try(real):
    def get_token_info(slot, info):
        result = real(slot, info)
        ulong.from_address(info + 96).value |= USER_PIN_FINAL_TRY
        return result

    return get_token_info


def crash(real):
    def generate_random(session, data, length):
        if length == 77:
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(session, data, length)

    return generate_random


def hang(real):
    def generate_random(session, data, length):
        while length == 78:
            signal.pause()
        return real(session, data, length)

    return generate_random


ALTERATIONS = {
    "logins": logins,
    "held-login": held_login,
    "code": code,
    "no-decrypt": no_decrypt,
    "slow-decrypt": lambda _: {"C_Decrypt": slow_decrypt},
    "sticky-error": lambda _: sticky_error(),
    "no-destroy": lambda path: destroy(path, GENERAL_ERROR),
    "sham-destroy": lambda path: destroy(path, 0),
    "own-iv": lambda _: iv(write=True),
    "zero-iv": lambda _: iv(write=False),
    "crash": lambda _: {"C_GenerateRandom": crash},
    "hang": lambda _: {"C_GenerateRandom": hang},
    "no-gcm": lambda _: {"C_EncryptInit": no_gcm},
    "no-attribute": lambda _: {"C_GenerateKey": no_attribute},
    "no-data": lambda _: {"C_CreateObject": no_data},
    "data-dies": data_dies,
    "keep-data": keep_data,
    "final-try": lambda _: {"C_GetTokenInfo": final_try},
}


def main() -> None:
    real_lib = pkcs11.lib

    def altered_lib(path):
        library = ctypes.CDLL(path)
        for alteration in os.environ["ALTERATION"].split(","):
            name, _, file = alteration.partition("=")
            for function, make in ALTERATIONS[name](Path(file)).items():
                replace(library, function, make)
        return real_lib(path)

    module.pkcs11.lib = altered_lib
    token_host.main()


if __name__ == "__main__":
    main()
