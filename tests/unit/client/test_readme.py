import re
import subprocess
import sys
import tomllib
from pathlib import Path

from kms_client import CannotDecrypt, Profile
from kms_client.formats.ciphertext import HEADER_LENGTH
from kms_client.v1 import crypto_pb2

from tests.client_peer import refuse

README = (Path(__file__).parents[3] / "client" / "README.md").read_text()


def block(language):
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return text


def test_the_example_runs(peer, tmp_path):
    places = {}

    def encrypt(request, context):
        sealed = bytes(HEADER_LENGTH) + request.plaintext[::-1]
        places[sealed] = {(pair.key, pair.value) for pair in request.context}
        return crypto_pb2.EncryptResponse(ciphertext=sealed, version=1)

    def decrypt(request, context):
        if places[request.ciphertext] != {(pair.key, pair.value) for pair in request.context}:
            refuse(context, CannotDecrypt())
        return crypto_pb2.DecryptResponse(plaintext=request.ciphertext[HEADER_LENGTH:][::-1], version=1, primary=True)

    peer.answer("Encrypt", encrypt)
    peer.answer("Decrypt", decrypt)
    peer.answer("EncryptBatch", lambda r, _: crypto_pb2.EncryptBatchResponse(ciphertexts=r.plaintexts, version=1))
    profile = tmp_path / "kms.toml"
    profile.write_text(f'target = "{peer.target}"\n')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block("python")],
        env={"KMS_PROFILE": str(profile)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "ada@example.org",
        "moved to another row: the ciphertext does not decrypt under this key and context",
        "2 values encrypted by version 1",
    ]
    assert {v for call in peer.tries("EncryptBatch") for v in call.request.varying.values} == {b"17", b"18"}


def test_the_profile_of_the_readme_has_every_field_there_is(tmp_path):
    path = tmp_path / "kms.toml"
    path.write_text(block("toml"))
    profile = Profile.load(path)
    assert profile.tls is not None
    assert set(tomllib.loads(block("toml"))) == {
        "target",
        "ca",
        "certificate",
        "private_key",
        "server_name",
        "token",
        "deadline",
    }
    assert profile.token == tmp_path / "secrets/token"
    assert profile.deadline == 10.0
