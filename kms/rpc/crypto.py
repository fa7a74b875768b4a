"""CryptoService: parse, call, format."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from kms.core.alphabets import Alphabet, Layout
from kms.core.errors import invalid
from kms.core.names import KeyName, Principal
from kms.core.normalisation import IndexNormaliser
from kms.rpc.fields import pairs_of, varying_of
from kms.rpc.messages import duration
from kms.rpc.status import status_of
from kms.services.data_keys import DataKeys
from kms.services.fields import Batch, Fields
from kms.services.formats import FormatRule, Formats
from kms.services.indexes import Indexes, IndexRule
from kms.services.leases import Leases
from kms.services.masked import decrypt_masked
from kms.services.pseudonyms import PseudonymRule, Pseudonyms
from kms.v1 import crypto_pb2 as pb

# Other calls get their turn after so many failures; each costs up to 30 us to tell.
FAILURES_TURN: Final = 64


class BatchObserver(Protocol):
    """Is told of every batch: metrics."""

    def values_processed(self, method: str, succeeded: int, failed: int = 0) -> None:
        """One batch has been worked on."""
        ...


class CryptoServicer:
    """Serves kms.v1.CryptoService."""

    def __init__(
        self,
        fields: Fields,
        indexes: Indexes,
        pseudonyms: Pseudonyms,
        formats: Formats,
        data_keys: DataKeys,
        leases: Leases,
        observer: BatchObserver,
    ) -> None:
        self._fields = fields
        self._indexes = indexes
        self._pseudonyms = pseudonyms
        self._formats = formats
        self._data_keys = data_keys
        self._leases = leases
        self._observer = observer

    async def Encrypt(self, request: pb.EncryptRequest, caller: Principal) -> pb.EncryptResponse:
        """Encrypt one value."""
        name = KeyName.parse(request.name)
        made = await self._fields.encrypt(caller, name, request.plaintext, pairs_of(request.context))
        return pb.EncryptResponse(ciphertext=made.ciphertext, version=made.version)

    async def Decrypt(self, request: pb.DecryptRequest, caller: Principal) -> pb.DecryptResponse:
        """Decrypt one value."""
        name = KeyName.parse(request.name)
        made = await self._fields.decrypt(caller, name, request.ciphertext, pairs_of(request.context))
        return pb.DecryptResponse(plaintext=made.plaintext, version=made.version, primary=made.primary)

    async def ReEncrypt(self, request: pb.ReEncryptRequest, caller: Principal) -> pb.ReEncryptResponse:
        """Bring one value to the primary version."""
        name = KeyName.parse(request.name)
        context, destination = pairs_of(request.context), _destination(request)
        made = await self._fields.reencrypt(caller, name, request.ciphertext, context, destination)
        return pb.ReEncryptResponse(ciphertext=made.ciphertext, version=made.version, changed=made.changed)

    async def EncryptBatch(self, request: pb.EncryptBatchRequest, caller: Principal) -> pb.EncryptBatchResponse:
        """Encrypt many values."""
        name, context, varying = KeyName.parse(request.name), pairs_of(request.context), varying_of(request)
        batch = await self._fields.encrypt_batch(caller, name, request.plaintexts[:], context, varying)
        self._count("EncryptBatch", batch)
        failures = await self._failures(batch)
        return pb.EncryptBatchResponse(ciphertexts=batch.values, failures=failures, version=batch.version)

    async def DecryptBatch(self, request: pb.DecryptBatchRequest, caller: Principal) -> pb.DecryptBatchResponse:
        """Decrypt many values."""
        name, context, varying = KeyName.parse(request.name), pairs_of(request.context), varying_of(request)
        batch = await self._fields.decrypt_batch(caller, name, request.ciphertexts[:], context, varying)
        self._count("DecryptBatch", batch)
        failures = await self._failures(batch)
        return pb.DecryptBatchResponse(plaintexts=batch.values, failures=failures, primary_version=batch.version)

    async def DecryptMaskedBatch(
        self, request: pb.DecryptMaskedBatchRequest, caller: Principal
    ) -> pb.DecryptMaskedBatchResponse:
        """Decrypt many values and answer with masks of them."""
        name, context, varying = KeyName.parse(request.name), pairs_of(request.context), varying_of(request)
        batch = await decrypt_masked(
            self._fields, caller, name, request.ciphertexts[:], context, varying, request.keep_last
        )
        self._count("DecryptMaskedBatch", batch)
        failures = await self._failures(batch)
        return pb.DecryptMaskedBatchResponse(values=_texts(batch), failures=failures)

    async def ReEncryptBatch(self, request: pb.ReEncryptBatchRequest, caller: Principal) -> pb.ReEncryptBatchResponse:
        """Bring many values to the primary version."""
        name, context, varying = KeyName.parse(request.name), pairs_of(request.context), varying_of(request)
        batch = await self._fields.reencrypt_batch(
            caller, name, request.ciphertexts[:], context, varying, _destination(request)
        )
        self._count("ReEncryptBatch", batch)
        return pb.ReEncryptBatchResponse(
            ciphertexts=batch.values,
            failures=await self._failures(batch),
            version=batch.version,
            changed=batch.changed,
        )

    async def ComputeIndexBatch(
        self, request: pb.ComputeIndexBatchRequest, caller: Principal
    ) -> pb.ComputeIndexBatchResponse:
        """Compute the blind index of many values."""
        name, rule = KeyName.parse(request.name), _index_rule(request)
        made = await self._indexes.compute_batch(
            caller, name, request.values[:], rule, all_versions=request.all_versions
        )
        self._count("ComputeIndexBatch", made.batch)
        failures = await self._failures(made.batch)
        return pb.ComputeIndexBatchResponse(indexes=made.flat(), versions=made.versions, failures=failures)

    async def ReIndexBatch(self, request: pb.ReIndexBatchRequest, caller: Principal) -> pb.ReIndexBatchResponse:
        """Compute the blind index of many encrypted values."""
        name, source = KeyName.parse(request.name), KeyName.parse(request.source, "source")
        context, varying, rule = pairs_of(request.context), varying_of(request), _index_rule(request)
        batch = await self._indexes.reindex_batch(caller, name, source, request.ciphertexts[:], context, varying, rule)
        self._count("ReIndexBatch", batch)
        failures = await self._failures(batch)
        return pb.ReIndexBatchResponse(indexes=batch.values, failures=failures, version=batch.version)

    async def PseudonymizeBatch(
        self, request: pb.PseudonymizeBatchRequest, caller: Principal
    ) -> pb.PseudonymizeBatchResponse:
        """Compute the pseudonyms of many values."""
        name = KeyName.parse(request.name)
        rule = PseudonymRule(request.scope, _normaliser(request.normaliser), request.length)
        batch = await self._pseudonyms.compute_batch(caller, name, request.values[:], rule, request.version)
        self._count("PseudonymizeBatch", batch)
        failures = await self._failures(batch)
        return pb.PseudonymizeBatchResponse(pseudonyms=_texts(batch), failures=failures, version=batch.version)

    async def EncryptFormatBatch(
        self, request: pb.EncryptFormatBatchRequest, caller: Principal
    ) -> pb.EncryptFormatBatchResponse:
        """Encrypt many formatted values."""
        name, rule = KeyName.parse(request.name), _format_rule(request.rule)
        batch = await self._formats.encrypt_batch(caller, name, request.values[:], rule)
        self._count("EncryptFormatBatch", batch)
        failures = await self._failures(batch)
        return pb.EncryptFormatBatchResponse(values=_texts(batch), failures=failures, version=batch.version)

    async def DecryptFormatBatch(
        self, request: pb.DecryptFormatBatchRequest, caller: Principal
    ) -> pb.DecryptFormatBatchResponse:
        """Decrypt many formatted values."""
        name, rule = KeyName.parse(request.name), _format_rule(request.rule)
        batch = await self._formats.decrypt_batch(caller, name, request.values[:], rule, request.version)
        self._count("DecryptFormatBatch", batch)
        failures = await self._failures(batch)
        return pb.DecryptFormatBatchResponse(values=_texts(batch), failures=failures, version=batch.version)

    async def GenerateDataKey(
        self, request: pb.GenerateDataKeyRequest, caller: Principal
    ) -> pb.GenerateDataKeyResponse:
        """Make a data key."""
        name = KeyName.parse(request.name)
        made = await self._data_keys.generate(caller, name, request.length, pairs_of(request.context))
        return pb.GenerateDataKeyResponse(plaintext=made.plaintext, ciphertext=made.ciphertext, version=made.version)

    async def DecryptDataKey(self, request: pb.DecryptDataKeyRequest, caller: Principal) -> pb.DecryptDataKeyResponse:
        """Decrypt a data key."""
        name = KeyName.parse(request.name)
        made = await self._data_keys.decrypt(caller, name, request.ciphertext, pairs_of(request.context))
        return pb.DecryptDataKeyResponse(plaintext=made.plaintext, version=made.version)

    async def LeaseKeyVersion(
        self, request: pb.LeaseKeyVersionRequest, caller: Principal
    ) -> pb.LeaseKeyVersionResponse:
        """Lend a DEK."""
        made = await self._leases.lease(caller, KeyName.parse(request.name), request.version)
        return pb.LeaseKeyVersionResponse(
            key=made.key,
            version=made.version,
            encrypts=made.encrypts,
            key_uid=str(made.key_uid),
            tenant_uid=str(made.tenant_uid),
            lease=duration(made.lease),
        )

    async def GenerateRandomBytes(
        self, request: pb.GenerateRandomBytesRequest, caller: Principal
    ) -> pb.GenerateRandomBytesResponse:
        """Return random bytes of the token."""
        del caller  # the token's random bytes are nobody's
        return pb.GenerateRandomBytesResponse(data=await self._data_keys.random(request.length))

    def _count(self, method: str, batch: Batch) -> None:
        failed = len(batch.failures)
        self._observer.values_processed(f"/kms.v1.CryptoService/{method}", len(batch.values) - failed, failed)

    async def _failures(self, batch: Batch) -> list[pb.ItemFailure]:
        told = []
        for index, error in sorted(batch.failures.items()):
            # Items have no request id of their own; the call's is in its log line.
            told.append(pb.ItemFailure(index=index, status=status_of(error, "")))
            if len(told) % FAILURES_TURN == 0:
                await asyncio.sleep(0)
        if told:  # which took its time
            await self._fields.confirm(batch)
        return told


def _destination(request: pb.ReEncryptRequest | pb.ReEncryptBatchRequest) -> KeyName | None:
    return KeyName.parse(request.destination, "destination") if request.destination else None


def _index_rule(request: pb.ComputeIndexBatchRequest | pb.ReIndexBatchRequest) -> IndexRule:
    return IndexRule(request.scope, _normaliser(request.normaliser), request.length)


def _normaliser(number: int) -> IndexNormaliser:
    try:
        return IndexNormaliser(number or IndexNormaliser.NONE)
    except ValueError as error:
        names = ", ".join(f"NORMALISER_{normaliser.name}" for normaliser in IndexNormaliser)
        raise invalid("normaliser", f"must be one of {names}") from error


def _format_rule(rule: pb.FormatRule) -> FormatRule:
    try:
        alphabet = Alphabet(rule.alphabet)
    except ValueError as error:
        names = ", ".join(f"ALPHABET_{alphabet.name}" for alphabet in Alphabet)
        raise invalid("rule.alphabet", f"must be one of {names}") from error
    return FormatRule(rule.scope, Layout(alphabet, rule.keep_first, rule.keep_last), rule.tweak)


def _texts(batch: Batch) -> list[str]:
    return [value.decode() for value in batch.values]
