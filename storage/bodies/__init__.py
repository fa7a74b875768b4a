"""Stores of blobs' bodies: in a directory, in the database, in object storage."""
