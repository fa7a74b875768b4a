"""Supervisor and framing of host processes: 4-byte length and msgpack over a socketpair (FORMATS section 10)."""
