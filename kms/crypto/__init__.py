"""Ciphers of the suites, the DEK handle and the DEK cache; alone on the request path to use `cryptography`."""
