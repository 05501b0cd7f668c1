# gguf.py - writes GGUF files, for make-gguf and make-tiny-gguf.
#
# SPDX-License-Identifier: MIT
import os
import struct

ALIGN = 32
F32, F16 = 0, 1                                   # ggml tensor types
U32, F32_V, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # GGUF value types
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6       # token types


def text(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, packed):
    return text(key) + struct.pack("<I", kind) + packed


def u32(key, n):
    return pair(key, U32, struct.pack("<I", n))


def f32(key, x):
    return pair(key, F32_V, struct.pack("<f", x))


def boolean(key, yes):
    return pair(key, BOOL, bytes([yes]))


def string(key, s):
    return pair(key, STRING, text(s))


def strings(key, values):
    return pair(key, ARRAY, struct.pack("<IQ", STRING, len(values)) +
                b"".join(text(v) for v in values))


def numbers(key, kind, values):
    """kind: I32 or F32_V."""
    letter = "i" if kind == I32 else "f"
    return pair(key, ARRAY, struct.pack("<IQ", kind, len(values)) +
                struct.pack(f"<{len(values)}{letter}", *values))


def write(out, pairs, tensors):
    """tensors: (name, shape with the fastest axis first, type, bytes)."""
    infos, chunks, offset = [], [], 0
    for name, shape, kind, data in tensors:
        infos.append(text(name) + struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        data += bytes(-len(data) % ALIGN)
        chunks.append(data)
        offset += len(data)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs))
    head += b"".join(pairs) + b"".join(infos)
    head += bytes(-len(head) % ALIGN)
    with open(out + ".partial", "wb") as f:
        f.write(head)
        f.writelines(chunks)
    os.replace(out + ".partial", out)
