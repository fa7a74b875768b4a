"""The pure format modules of kms/core and the ciphers of kms/crypto, copied by scripts/generate."""
