"""What a video is to a reader of names and numbers. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Video:
    """One video of a source: its name there, the number of frames that decode, its class if it has one."""

    name: str
    num_frames: int
    label: int | None = None
