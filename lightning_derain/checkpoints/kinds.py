"""What a file is that is no checkpoint, by how it begins, in the user's words."""

from __future__ import annotations

import re
from pathlib import Path

BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch it by `git lfs pull`"),
    (b"model_checkpoint_path", "TensorFlow's list of checkpoints: give the .index beside it"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file, as of Keras or of MATLAB 7.3, which is not read"),
    (b"\x1f\x8b", "compressed (gzip): unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x93NUMPY", "an array of NumPy's, not a checkpoint"),
)
"""First bytes, and what has them."""


def described(path: Path, start: bytes) -> str | None:
    """What a file is that is none of the kinds that are read; None where nothing tells.

    Args:
        path: its name.
        start: its first bytes, 512 at least where it has so many.
    """
    if not start:
        return "empty"
    return known_beginning(start) or _by_name(path) or ("text" if _is_text(start) else None)


def known_beginning(start: bytes) -> str | None:
    """What begins so, as no checkpoint does, whatever its name says."""
    for beginning, kind in BEGINNINGS:
        if start.startswith(beginning):
            return kind
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return "a web page, perhaps one that was saved instead of the file that it links to"
    return None


def _by_name(path: Path) -> str | None:
    if path.suffix == ".meta":
        return "the graph of a checkpoint of TensorFlow's: give the .index with the .data-00000-of-00001 beside it"
    if path.suffix in (".pb", ".onnx", ".h5", ".keras", ".tflite"):
        return f"a {path.suffix} file, which is not read"
    return None


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 or byte > 159 for byte in start)
