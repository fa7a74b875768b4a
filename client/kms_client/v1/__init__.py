"""Stubs generated from proto/kms/v1 by scripts/generate."""
