"""The pure format modules of kms/core, copied by scripts/generate."""
