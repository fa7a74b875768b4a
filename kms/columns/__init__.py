"""The runner behind `kms columns`: it alone connects to applications' databases, and uses the daemon by gRPC."""
