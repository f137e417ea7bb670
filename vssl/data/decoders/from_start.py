"""Everything from the first frame on, for files whose times or key frames are none: slow, and right wherever
a file can be played. The check chooses it for them."""

from vssl.data.decoders.pyav import read_from_start as read

__all__ = ["read"]
