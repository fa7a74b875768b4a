"""The enclave interface and its backends; nothing of ours is imported here, so that the package can be measured."""
