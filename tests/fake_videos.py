"""Videos whose frames show their own number in black and white, written in the ways that mislead readers."""

import struct
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

BITS, BLOCK, HEIGHT = 8, 16, 32


def numbered_frame(number):
    """Picture of a number: one white or black column per bit."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, BLOCK)
    return np.broadcast_to(row[None, :, None], (HEIGHT, len(row), 3)).copy()


def numbers(frames_THWC):
    """Read the numbers back from the middle of every column, whatever the size."""
    height, width = frames_THWC.shape[1:3]
    middles = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return (frames_THWC[:, height // 2, middles, 1] > 127).astype(int).dot(2 ** np.arange(BITS)).tolist()


def write(
    path,
    num_frames,
    times=None,
    codec="libx264",
    pix_fmt="yuv420p",
    size=(128, 32),
    turns=0,
    options=None,
    muxer=None,
    into=None,
):
    """Write a numbered video.

    times: of the frames in 1/100 s; None: 25 a second. size: width and height. turns: quarter turns
    anticlockwise that the file asks viewers to make. options, muxer: of the encoder and of the container.
    into: a pipe for an AVI, in place of the path.
    """
    with av.open(into or str(path), "w", format="avi" if into else None, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size[::-1] if turns % 2 else size
        stream.pix_fmt, stream.codec_context.time_base = (
            pix_fmt,
            Fraction(1, 100 if times is not None else 25),
        )
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24").reformat(*size)
            lying = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), -turns))
            frame = av.VideoFrame.from_ndarray(lying, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[number]), Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if turns:
        cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
        show_by(path, cos, -sin, sin, cos)
    return path


def show_by(path, a, b, c, d):
    """Write the display matrix of an mp4, 3x3 numbers: (x, y) is shown at (a x + c y, b x + d y)."""
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    content = path.read_bytes()
    start = content.index(b"tkhd") + 44
    path.write_bytes(content[:start] + struct.pack(">9i", *matrix) + content[start + 36 :])
    return path


def several(path, default):
    """Write a preview of 20 frames and half the size, then the film of 60; one of them is the default."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for number, (stream, size) in enumerate(zip(streams, [(64, 16), (128, 32)], strict=True)):
            (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            for stream in streams if number < 20 else streams[1:]:
                container.mux(stream.encode(frame.reformat(stream.width, stream.height)))
        for stream in streams:
            container.mux(stream.encode())
    return path


def piped(path):
    """Write an AVI as into a pipe, so that no length in its header is known."""
    with open(path, "wb") as file:
        pipe = type("Pipe", (), {"write": staticmethod(file.write)})
        write(path, 60, codec="mpeg4", into=pipe)
    return path


def all_flagged(path):
    """Write an mp4 file in which one frame of twelve is a key frame, and all of them are said to be."""
    first = write(path.with_name("first.mp4"), 60, options={"g": "12", "bf": "0"})
    with av.open(str(first)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.is_keyframe, packet.stream = True, stream
                container.mux(packet)
    first.unlink()
    return path


def changing_size(path):
    """Write a transport stream of 30 frames, and 30 of half the size behind them."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv420p"
        smaller = av.CodecContext.create("libx264", "w")
        smaller.width, smaller.height, smaller.pix_fmt = 64, 16, "yuv420p"
        smaller.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for context, numbered in ((stream.codec_context, range(30)), (smaller, range(30, 60))):
            for number in [*numbered, None]:
                frame = None
                if number is not None:
                    frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                    frame = frame.reformat(context.width, context.height, "yuv420p")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                for packet in context.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    return path


def with_cover(path):
    """Write a video of 60 frames, with a larger picture attached before it."""
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("mjpeg"), container.add_stream("libx264", rate=25)
        (cover.width, cover.height), cover.pix_fmt = (512, 512), "yuvj420p"
        (film.width, film.height), film.pix_fmt = (128, 32), "yuv420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame(512, 512, "yuvj420p")))
        for number in range(60):
            container.mux(film.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        container.mux([*cover.encode(), *film.encode()])
    return path


def corner(path):
    """Write ten frames of 64 x 96: white in the upper left corner, yellow beside it, black below."""
    picture_HWC = np.zeros((64, 96, 3), np.uint8)
    picture_HWC[:16], picture_HWC[:16, :16] = (200, 200, 0), 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.height, stream.width), stream.pix_fmt = picture_HWC.shape[:2], "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        container.mux(stream.encode())
    return path


def cut(source, path, first):
    """Copy the packets from the key frame before frame `first` on, and hide those before `first`.

    As `ffmpeg -ss ... -c copy` does it: the file holds more frames than a viewer is shown.
    """
    with av.open(str(source)) as whole, av.open(str(path), "w") as part:
        packets = [packet for packet in whole.demux(video=0) if packet.size]
        origin = sorted(packet.pts for packet in packets)[first]
        start = max(n for n, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= origin)
        stream = part.add_stream_from_template(whole.streams.video[0])
        for packet in packets[start:]:
            packet.pts, packet.dts, packet.stream = packet.pts - origin, packet.dts - origin, stream
            part.mux(packet)
    return path


def audio(path):
    """Write an mp4 file without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def half(path, **kind):
    """Write the first half of a file."""
    content = write(path, 60, **kind).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def scratched(path):
    """Write a video whose table of frames is right, but not what it points to."""
    content = bytearray(write(path, 60).read_bytes())
    start = content.index(b"mdat") + 800
    content[start : start + 1000] = b"\xff" * 1000
    path.write_bytes(content)
    return path
