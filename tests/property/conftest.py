from __future__ import annotations

from hypothesis import settings

# No deadline per example: on a busy machine it measures the machine.
settings.register_profile("kms", deadline=None, max_examples=200)
settings.load_profile("kms")
