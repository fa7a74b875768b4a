"""Encrypt a value, store it as text, and read it back."""

from kms_client import Client, NotFound, Purpose, from_text, to_text

PARENT = "tenants/acme"
KEY = f"{PARENT}/keys/customers"

# The profile is the one that KMS_PROFILE names.
with Client.from_profile() as kms:
    try:
        kms.get_key(KEY)
    except NotFound:
        kms.create_key(PARENT, "customers", purpose=Purpose.ENCRYPT)

    # The context says where the value belongs; it decrypts nowhere else.
    place = {"table": "customers", "column": "phone", "row": "42"}
    stored = to_text(kms.encrypt(KEY, b"+12025550123", context=place).ciphertext)
    print(stored)
    print(kms.decrypt(KEY, from_text(stored), context=place).plaintext.decode())

    # Many values at once: one context, one pair that varies.
    rows = [str(row) for row in range(1_000)]
    made = kms.encrypt_batch(KEY, [b"value"] * 1_000, context={"table": "t"}, varying=("row", rows))
    print(len(made.complete()), "values in one call")
