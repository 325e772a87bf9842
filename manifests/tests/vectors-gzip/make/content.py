"""Makes the contents of the gzip vectors, from a fixed seed: content.py FOLDER.

mixed.bin   text, logs, JSON, records, tables, zeros, and repeats up to the very edge of the window
dense.bin   longer than a block of 16384 symbols and random at first: compressors store that block
"""
import random
import struct
import sys

WORDS = (
    "release bundle manifest signature operator volume digest layer image volume the of and to in is for on "
    "with as by at from machine network container storage update rollback journal health check started stopped"
).split()


def sentences(rng, size):
    out = []
    while sum(map(len, out)) < size:
        out.append(" ".join(rng.choices(WORDS, k=rng.randint(4, 14))).capitalize() + ".\n")
    return "".join(out)[:size].encode()


def log(rng, lines):
    second = 0
    for _ in range(lines):
        second += rng.randint(0, 3)
        yield (
            f"2026-01-{1 + second // 86400:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}Z "
            f"unit-{rng.randint(1, 9)}[{rng.randint(200, 4000)}]: {rng.choice(WORDS)} {rng.choice(WORDS)} rc={rng.randint(0, 2)}\n"
        ).encode()


def records(rng, count):
    offset = 0x400000
    for number in range(count):
        offset += rng.choice((8, 16, 16, 24, 32, 64))
        yield struct.pack("<QIHHQ", offset, number, rng.choice((1, 2, 0x12)), rng.randint(0, 40), rng.choice((0, offset)))


def mixed():
    rng = random.Random("TEST mixed")
    text = sentences(rng, 5000)
    noise = rng.randbytes(300)
    out = text
    out += b"".join(log(rng, 60))
    out += b"".join(records(rng, 250))
    out += b"\0" * 5000
    out += b"".join(f'{{"id":{n},"name":"{rng.choice(WORDS)}","size":{rng.randint(1, 10**6)}}},'.encode() for n in range(50))
    out += bytes(range(256)) * 2 + noise
    # The window's edge: the noise again at exactly 32768, the text from beyond it (it must not be found).
    out += bytes(n % 7 for n in range(32768 - len(noise))) + noise
    out += text[:4000] + text[1000:4000][::-1]
    return out


def dense():
    rng = random.Random("TEST dense")
    return rng.randbytes(17000) + sentences(rng, 1500) + b"\0" * 400


if __name__ == "__main__":
    for name, content in (("mixed.bin", mixed()), ("dense.bin", dense())):
        with open(f"{sys.argv[1]}/{name}", "wb") as file:
            file.write(content)
