"""The contracts of a vault over SoftHSM, by both mechanisms and with both sources of IVs."""

import pytest

from kms.core.wrapping import WrapMechanism
from tests.contract.kek_vault import KekVaultContract
from tests.contract.vault_abilities import KekDestroyerContract, KekRewrapperContract, SignerContract

pytestmark = pytest.mark.softhsm


async def started(vault):
    await vault.start()
    try:
        yield vault
    finally:
        await vault.stop()


class VaultContract(KekVaultContract, KekRewrapperContract, KekDestroyerContract, SignerContract):
    """All abilities."""


class TestAesGcm(VaultContract):
    @pytest.fixture
    def mechanism(self):
        return WrapMechanism.AES_GCM

    @pytest.fixture
    async def vault(self, shared_token):
        async for vault in started(shared_token.vault(mechanism="aes-gcm")):
            yield vault


class TestAesGcmWithIvsOfTheModule(TestAesGcm):
    @pytest.fixture
    async def vault(self, shared_token):
        async for vault in started(shared_token.altered("own-iv")):
            assert vault.capabilities().iv_source == "module"
            yield vault


class TestAesKw(VaultContract):
    @pytest.fixture
    def mechanism(self):
        return WrapMechanism.AES_KW

    @pytest.fixture
    async def vault(self, shared_token):
        async for vault in started(shared_token.vault(mechanism="aes-kw")):
            yield vault
