"""Randomness by name: results do not depend on batch size, order, worker count or resume."""

from hashlib import blake2b


def derive(root: int, *names: object) -> int:
    """A 63-bit seed for one named purpose, e.g. derive(config.seed, "split") or derive(config.seed, "noise", step)."""
    text = "\0".join([str(root), *map(str, names)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1
