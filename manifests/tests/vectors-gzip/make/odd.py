"""gzip files that ordinary compressors seldom or never write: odd.py CONTENTS OUT.

Streams of Python's zlib with its flushes and strategies, gzip headers with every field, several members,
and deflate blocks put together bit by bit (RFC 1951; RFC 1952 for the header).
"""
import pathlib
import struct
import sys
import zlib

contents, out = map(pathlib.Path, sys.argv[1:])
MIXED, DENSE = (contents / "mixed.bin").read_bytes(), (contents / "dense.bin").read_bytes()


def put(name, stream, content):
    assert zlib_members(stream) == content, name
    (out / f"{name}.gz").write_bytes(stream)
    (out / f"{name}.content").write_bytes(content)


def zlib_members(stream):
    """What the members decompress to; zeros after the last one are padding."""
    content = b""
    while stream.strip(b"\0"):
        member = zlib.decompressobj(31)
        content += member.decompress(stream) + member.flush()
        assert member.eof
        stream = member.unused_data
    return content


def raw(content, level=6, flush=None, step=4096, strategy=zlib.Z_DEFAULT_STRATEGY, memory=8, window=15):
    deflate = zlib.compressobj(level, zlib.DEFLATED, -window, memory, strategy)
    stream = b""
    for at in range(0, len(content), step):
        stream += deflate.compress(content[at : at + step])
        if flush is not None:
            stream += deflate.flush(flush)
    return stream + deflate.flush()


def member(stream, content, flags=0, fields=b"", mtime=0, extra_flags=0, system=255):
    header = struct.pack("<BBBBIBB", 31, 139, 8, flags, mtime, extra_flags, system) + fields
    if flags & 2:
        header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    return header + stream + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)


# --- zlib, as minigzip, Jib and Bazel use it ----------------------------------
for level in range(10):
    body = DENSE if level == 0 else MIXED
    put(f"zlib-{level}", member(raw(body, level), body, system=3), body)
put("zlib-dense", member(raw(DENSE), DENSE), DENSE)
for name, flush in (("sync", zlib.Z_SYNC_FLUSH), ("full", zlib.Z_FULL_FLUSH), ("partial", zlib.Z_PARTIAL_FLUSH), ("block", zlib.Z_BLOCK)):
    put(f"zlib-flush-{name}", member(raw(MIXED, flush=flush), MIXED), MIXED)
put("zlib-flush-sync-small", member(raw(MIXED[:6000], flush=zlib.Z_SYNC_FLUSH, step=100), MIXED[:6000]), MIXED[:6000])
for name, strategy in (("filtered", zlib.Z_FILTERED), ("huffman", zlib.Z_HUFFMAN_ONLY), ("rle", zlib.Z_RLE), ("fixed", zlib.Z_FIXED)):
    body = MIXED if name == "filtered" else MIXED[:24000]
    put(f"zlib-strategy-{name}", member(raw(body, strategy=strategy), body), body)
put("zlib-memory-1", member(raw(MIXED, memory=1), MIXED), MIXED)
put("zlib-window-9", member(raw(MIXED[:24000], window=9), MIXED[:24000]), MIXED[:24000])

# --- headers, members, padding ------------------------------------------------
text = MIXED[:9000]
deflated = raw(text)
put("header-everything", member(deflated, text, 31, struct.pack("<H", 8) + b"LG\x04\0abcd" + "größe.tar".encode("latin-1") + b"\0a comment\0", 1_700_000_000, 2, 3), text)
put("header-crc", member(deflated, text, 2), text)
put("header-name", member(deflated, text, 8, b"layer.tar\0", 1_700_000_000, 2, 3), text)
put("header-extra-long", member(raw(text[:300]), text[:300], 4, struct.pack("<H", 20000) + bytes(20000)), text[:300])
put("header-amiga", member(deflated, text, 1, mtime=0xFFFFFFFF, extra_flags=4, system=1), text)
parts = [text[:5000], b"", text[5000:5001], text[5001:]]
put("members", b"".join(member(raw(part), part) for part in parts), text)
put("members-mixed-headers", b"".join(member(raw(part, level), part, flags, fields) for part, level, flags, fields in
    zip(parts, (9, 6, 0, 1), (8, 0, 2, 4), (b"a\0", b"", b"", b"\3\0xyz"))), text)
put("members-many", b"".join(member(raw(text[n : n + 60]), text[n : n + 60]) for n in range(0, 6000, 60)), text[:6000])
put("padding-zeros", member(deflated, text) + bytes(512), text)
put("empty", member(raw(b""), b""), b"")
put("empty-twice", member(raw(b""), b"") * 2, b"")


# --- deflate by hand ----------------------------------------------------------
class Bits:
    def __init__(self):
        self.bits = []

    def put(self, value, count):
        self.bits += [value >> n & 1 for n in range(count)]
        return self

    def code(self, codes, symbol):
        value, length = codes[symbol]
        self.bits += [value >> n & 1 for n in reversed(range(length))]
        return self

    def align(self, fill=0):
        while len(self.bits) % 8:
            self.bits.append(fill)
        return self

    def bytes(self, fill=0):
        self.align(fill)
        return bytes(sum(bit << n for n, bit in enumerate(self.bits[at : at + 8])) for at in range(0, len(self.bits), 8))


def canonical(lengths):
    """Symbol to (code, length), RFC 1951 3.2.2."""
    codes, code = {}, 0
    for length in range(1, 16):
        code <<= 1
        for symbol, own in enumerate(lengths):
            if own == length:
                codes[symbol] = (code, length)
                code += 1
    return codes


FIXED = canonical([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8)
FIXED_DISTANCE = canonical([5] * 30)
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


def stored(bits, content, final=0, fill=0):
    bits.put(final, 1).put(0, 2).align(fill).put(len(content), 16).put(len(content) ^ 0xFFFF, 16)
    for byte in content:
        bits.put(byte, 8)


def dynamic(bits, literal, distance, final, items=None, kinds=19):
    """A dynamic block's header; items are (symbol, extra value) of the code length code, default one each."""
    items = items or [(length, 0) for length in literal + distance]
    used = sorted({symbol for symbol, _ in items})
    # A complete code of nearly equal lengths.
    size = max(1, (len(used) - 1).bit_length())
    short = (1 << size) - len(used)
    lengths = [0] * 19
    for place, symbol in enumerate(used):
        lengths[symbol] = size - 1 if place < short else size
    if len(used) == 1:
        lengths[used[0]] = 1
    codes = canonical(lengths)
    bits.put(final, 1).put(2, 2).put(len(literal) - 257, 5).put(len(distance) - 1, 5).put(kinds - 4, 4)
    assert not any(lengths[kind] for kind in ORDER[kinds:])
    for kind in ORDER[:kinds]:
        bits.put(lengths[kind], 3)
    for symbol, extra in items:
        bits.code(codes, symbol)
        if symbol >= 16:
            bits.put(extra, {16: 2, 17: 3, 18: 7}[symbol])


def hand(name, bits, content, fill=0):
    put(f"hand-{name}", member(bits.bytes(fill), content), content)


# Every kind of block in one member, empty ones between, the last one empty.
bits, body = Bits(), b"fixed and stored"
bits.put(0, 1).put(1, 2).code(FIXED, 256)
bits.put(0, 1).put(1, 2)
for byte in body:
    bits.code(FIXED, byte)
bits.code(FIXED, 256)
stored(bits, b"")
stored(bits, body * 3)
literal = [0] * 257
literal[ord("a")], literal[ord("b")], literal[256] = 1, 2, 2
dynamic(bits, literal, [0], 0)
codes = canonical(literal)
for byte in b"abba":
    bits.code(codes, byte)
bits.code(codes, 256)
bits.put(1, 1).put(1, 2).code(FIXED, 256)
hand("all-blocks", bits, body + body * 3 + b"abba")

# Bits that nothing reads are set: before a stored block's length, after the last block.
bits = Bits()
bits.put(0, 1).put(1, 2).code(FIXED, ord("x")).code(FIXED, 256)
stored(bits, b"yz", fill=1)
bits.put(1, 1).put(1, 2).code(FIXED, ord("!")).code(FIXED, 256)
hand("unused-bits-set", bits, b"xyz!", fill=1)

# One distance code only (an incomplete tree that RFC 1951 allows), length 258 as 285 and as 284 with 31.
literal = [0] * 286
for symbol, length in ((ord("a"), 2), (256, 2), (284, 2), (285, 2)):
    literal[symbol] = length
bits = Bits()
dynamic(bits, literal, [1], 1)
codes, one = canonical(literal), canonical([1])
bits.code(codes, ord("a")).code(codes, 285).code(one, 0).code(codes, 284).put(31, 5).code(one, 0).code(codes, 284).put(0, 5).code(one, 0).code(codes, 256)
hand("single-distance", bits, b"a" * (1 + 258 + 258 + 227))

# Codes of all lengths up to 15, the code lengths by repeats that run from literals into distances.
literal = [0] * 286
for symbol in range(1, 15):
    literal[symbol] = symbol
literal[256] = literal[15] = 15
distance = [0] * 30
distance[0] = distance[29] = 1
items = [(0, 0)] + [(n, 0) for n in range(1, 16)] + [(18, 127), (18, 91)] + [(15, 0), (18, 18), (1, 0), (18, 17), (1, 0)]
flat = []
for symbol, extra in items:
    flat += [symbol] if symbol < 16 else [0] * (extra + 11)
# 16 to 255, then 256, then zeros over the boundary, as in RFC 1951 3.2.7.
expected = literal + distance
assert flat == expected, [n for n, (a, b) in enumerate(zip(flat, expected)) if a != b][:3]
bits = Bits()
dynamic(bits, literal, distance, 1, items)
codes = canonical(literal)
body = bytes(range(1, 16)) * 3 + bytes(15 - n for n in range(15))
for byte in body:
    bits.code(codes, byte)
bits.code(codes, 256)
hand("lengths-to-15", bits, body)

# The longest distance: 32768 bytes back, and one that overlaps itself.
bits = Bits()
stored(bits, bytes(n * n % 251 for n in range(32768)))
body = bytes(n * n % 251 for n in range(32768))
bits.put(1, 1).put(1, 2)
bits.code(FIXED, 285).code(FIXED_DISTANCE, 29).put(8191, 13)
bits.code(FIXED, 257).code(FIXED_DISTANCE, 29).put(8191, 13)
bits.code(FIXED, 285).code(FIXED_DISTANCE, 1).code(FIXED, 256)
content = body + body[:258] + body[258:261]
for _ in range(258):
    content += content[-2:-1]
hand("distance-32768", bits, content)

# Every length and every distance code, in fixed blocks.
bits = Bits()
body = bytes((n * 7 + n // 256) % 256 for n in range(300))
stored(bits, body)
bits.put(1, 1).put(1, 2)
content = bytearray(body)
length_base = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258]
length_extra = [0] * 8 + [n for n in range(1, 6) for _ in range(4)] + [0]
distance_base, base = [], 1
for number in range(30):
    distance_base.append(base)
    base += 1 << max(0, number // 2 - 1)
for length in list(range(3, 259)) * 2 + [258] * 200:
    kind = max(n for n, start in enumerate(length_base) if start <= length)
    wanted = 1 + (len(content) * 2654435761 >> 7) % min(len(content), 32768)
    far = max(n for n, start in enumerate(distance_base) if start <= wanted)
    bits.code(FIXED, 257 + kind).put(length - length_base[kind], length_extra[kind])
    bits.code(FIXED_DISTANCE, far).put(wanted - distance_base[far], max(0, far // 2 - 1))
    for _ in range(length):
        content.append(content[-wanted])
bits.code(FIXED, 256)
hand("every-length", bits, bytes(content))

# No distance code at all.
literal = [8] * 226 + [9] * 60
bits = Bits()
dynamic(bits, literal, [0], 1)
codes = canonical(literal)
for byte in bytes(range(256)):
    bits.code(codes, byte)
bits.code(codes, 256)
hand("no-distance", bits, bytes(range(256)))

# One literal only: the end of block, one bit.
bits = Bits()
literal = [0] * 256 + [1]
dynamic(bits, literal, [0], 0, [(18, 127), (18, 107), (1, 0), (0, 0)], kinds=18)
bits.code(canonical(literal), 256)
bits.put(1, 1).put(1, 2).code(FIXED, 256)
hand("only-an-end", bits, b"")

# A stored block as long as one can be, then one of one byte.
bits = Bits()
stored(bits, bytes(65535))
stored(bits, b"!", final=1)
hand("stored-65535", bits, bytes(65535) + b"!")
