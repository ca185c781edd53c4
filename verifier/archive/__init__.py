"""A party's archive: an append-only Merkle log under signed checkpoints, its blobs, and the audit of both."""
