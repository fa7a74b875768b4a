"""Keep files in the daemon, sealed under keys of its enclave: put one there, read a part of it, and write a whole copy.

KMS_PROFILE=~/kms-app/kms.toml python examples/blobs.py report.pdf copy.pdf
"""

import sys
from pathlib import Path

from kms_client import Client, files

PARENT = "tenants/acme"
CONTEXT = {"owner": "42"}  # whoever reads it has to say the same


def main(source: Path, copy: Path) -> None:
    """Seal *source* and write what is unsealed to *copy*."""
    with Client.from_profile() as kms:
        with source.open("rb") as file:
            blob = kms.seal_blob(PARENT, source.name, file, content_type="application/pdf", context=CONTEXT)
        print(f"{blob.name}: {blob.size} bytes, {'SIMULATED enclave' if blob.simulated else 'enclave'}")

        first = b"".join(kms.unseal_blob(blob.name, length=4, context=CONTEXT))
        print(f"begins with {first!r}")

        # Only a stream that ends well is whole, so the file gets its name at the end.
        with files.whole_file(copy) as target:
            for piece in kms.unseal_blob(blob.name, context=CONTEXT):
                target.write(piece)
        kms.delete_blob(blob.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
