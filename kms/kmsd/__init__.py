"""The kmsd command: set up, check, migrate, serve."""
