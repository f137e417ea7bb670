"""One file per decoder, found by its name, each with `read(path, frames_T)`: frames of rising numbers.

The library is imported in that file alone, and late; one that is optional has `load()`, which raises
VsslError with what to install. What all of them promise, and how they say no, is written in
`vssl.data.decode`.
"""
