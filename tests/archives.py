"""Small archives, made in memory."""

import io
import struct
import tarfile
import zipfile
import zlib


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(files, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def rarred(files):
    """A rar of version 4 without compression, as published: blocks of a checksum, type, flags, size."""

    def block(kind, flags, rest):
        body = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body

    def one(name, content):
        sizes = struct.pack("<II", len(content), len(content))
        about = struct.pack("<BIIBBHI", 3, zlib.crc32(content), 0x58210000, 20, 0x30, len(name), 0o100644)
        return block(0x74, 0x8000, sizes + about + name.replace("/", "\\").encode()) + content

    parts = [one(name, content) for name, content in files.items()]
    return b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6)) + b"".join(parts) + block(0x7B, 0x4000, b"")
