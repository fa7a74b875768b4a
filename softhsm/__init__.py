"""A SoftHSM token for development and tests: not for production, its keys are files."""

from .token import SoftHsmError, SoftHsmToken, create_token, find_module

__all__ = ["SoftHsmError", "SoftHsmToken", "create_token", "find_module"]
