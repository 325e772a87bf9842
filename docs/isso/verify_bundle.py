#!/usr/bin/env python3
"""Proves a Lockgate bundle with what we did not write: Python's standard library, minisign and, if there, zstd.
    verify_bundle.py BUNDLE FINGERPRINT [--policy hybrid|cnsa2|ed25519] [--floor N] [--now TIME]
FINGERPRINT  SHA-384 of a trust root's signed text, 96 digits, which reached you by another way than the
             bundle (`installer trust show` prints it); the bundle's chain of roots must hold that root
--policy     what signatures the site asks for (R-SIG-10): cnsa2 for ML-DSA-87 alone, ed25519 for Ed25519 alone
--floor      the lowest sequence that the site takes; --now: TIME as 2026-01-31T00:00:00Z, against the expiry
It follows docs/spec/bundle-format.md and names its rules. Each byte is read once and used from there.
Beside it, if there: bundle_forms.py refuses more (names, values, times outside the rules; it proves nothing), and
bundle_tokens.py gives the gzip bytes of layers that are carried as deflate tokens.
NOT PROVED: ML-DSA-87, which the standard library lacks. Those signatures are counted, not verified.
Exit: 0 proved; 1 no fault, but not all proved: who signed (cnsa2), or what bytes decode to (deltas; zstd or tokens
without their program); 2 wrong call; 3 damaged, malformed; 4 not trusted; 5 against policy; 6 no file or minisign."""
import argparse, base64, hashlib, importlib.util, json, re, shutil, subprocess, sys, tempfile
sys.dont_write_bytecode = True  # leaves nothing beside this file
forms, tokens = (importlib.util.find_spec(name) and importlib.import_module(name)
                 for name in ("bundle_forms", "bundle_tokens"))
SCHEMES = ("ed25519", "ml-dsa-87")
POLICIES = {"hybrid": SCHEMES, "cnsa2": SCHEMES[1:], "ed25519": SCHEMES[:1]}
class Refused(Exception): pass  # of exit code and reason
def need(fine, code, why):
    if not fine:
        raise Refused(code, why)
# ---- Section 2: the archive, read strictly forward.
def header(name, size):
    """The only header that a member of this name and size may have (R-ARC-1)."""
    front = name.ljust(100, b"\0") + b"0000444\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0"
    block = (front + b" " * 8 + b"0").ljust(257, b"\0") + b"ustar\0" + b"00" + bytes(247)
    return block[:148] + b"%07o\0" % sum(block) + block[156:]
def take(file, count):
    need(len(data := file.read(count)) == count, 3, "the archive is cut short")
    return data
def member(file):
    """Name and size of the next member; no name at the end mark, behind which nothing may follow (R-ARC-4)."""
    block = take(file, 512)
    if block == bytes(512):
        need(take(file, 512) == bytes(512) and not file.read(1), 3, "the end mark is not the end of the file")
        return "", 0
    name, size = block[:100].rstrip(b"\0"), block[124:135]
    plain = re.fullmatch(b"[a-z0-9./-]+", name) and re.fullmatch(b"[0-7]{11}", size)
    need(plain and block == header(name, int(size, 8)), 3, f"not the header of a plain member: {name!r}")
    return name.decode(), int(size, 8)
def take_padding(file, name, size):
    need(not any(take(file, -size % 512)), 3, f"the padding of {name} is not zero")
def take_member(file, name, size, limit, left):
    """A member before the first pack, and the bytes that are left to the others of them (R-LIM-32)."""
    need(size <= limit and left >= 512 + size, 3, f"{name}: over {limit} bytes, or over 24 MiB with all before it")
    return take(file, size), take_padding(file, name, size) or left - 512 - size - -size % 512
# ---- Sections 1 and 4: documents, keys, signatures, the chain of roots.
def parse(what, kind, raw):
    """Strict JSON in its one canonical form (R-JSON-1 to 5): there is no second way to read the bytes."""
    value = json.loads(raw.decode())
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
    need(text.encode() == raw and value["format"] == kind, 3, f"{what}: not in the canonical form of {kind}")
    wrong = forms and forms.fault(kind, value)
    need(not wrong, 3, f"{what}: {wrong}")
    return value
def unbase64(text):
    need(base64.b64encode(raw := base64.b64decode(text, validate=True)).decode() == text, 3, "base64 in a second form")
    return raw
def check_key(entry):
    """A key's id is computed from the key (R-SIG-1 to 3), so that no two keys share one and none has two."""
    raw, scheme = unbase64(entry["public"]), entry["scheme"]
    key, size = (raw[10:], 32) if scheme == "ed25519" else (raw, 2592)
    own = hashlib.sha384(b"lockgate-key/1\0" + scheme.encode() + b"\0" + key).digest()[:8]
    need(len(key) == size and raw[:-size] in (b"", b"Ed" + own) and own.hex() == entry["id"], 3, "a bad key")
    return entry["id"], entry
def check_signature(what, key, scheme, raw):
    """The one form of a signature file (R-SIG-4, R-SIG-5)."""
    head = b"untrusted comment: Lockgate signature, see docs/spec/bundle-format.md\n"
    form = re.fullmatch(head + rb"(\S{100})\ntrusted comment: (.*(?<!\r))\n(\S{88})\n", raw)
    fine = form and unbase64(form[1].decode())[:-64] == b"ED" + bytes.fromhex(key) and \
        not unbase64(form[3].decode())[64:]
    need(len(raw) == 4627 if scheme == "ml-dsa-87" else fine, 3, f"{what}: not a {scheme} signature by {key}")
    return key, scheme, form and form[2].decode(), raw
def prove(what, document, signatures, keys):
    """Every signature is by a listed key (R-SIG-8); minisign verifies every Ed25519 one."""
    for key, scheme, _, raw in signatures:
        need(scheme == keys.get(key, {}).get("scheme"), 4, f"{what}: signed by {key}, which the root does not list")
        if scheme == "ed25519":
            with tempfile.NamedTemporaryFile() as signed, tempfile.NamedTemporaryFile() as sig:
                signed.write(document), sig.write(raw), signed.flush(), sig.flush()
                run = ["minisign", "-VHq", "-P", keys[key]["public"], "-m", signed.name, "-x", sig.name]
                need(not subprocess.run(run, capture_output=True).returncode, 4, f"{what}: minisign refuses {key}")
def threshold(what, signatures, root, role, policy="hybrid"):
    """For each scheme on its own, enough distinct keys of the role (R-SIG-10); no key appears twice by now."""
    needed = root["roles"][role]["threshold"]
    for scheme in reversed(SCHEMES):
        found = sum(of == scheme and key in root["roles"][role]["keys"] for key, of, _, _ in signatures)
        fine = found >= needed or scheme not in POLICIES[policy]
        need(fine, 4, f"{what}: {found} {scheme} keys of role {role} signed, {needed} are needed")
    return found >= needed  # of Ed25519: the role is proved, not only counted
def read_root(name, raw):
    """A root's signed text, content, keys and signatures; consistent (R-ROOT-1 to 3), not yet proved."""
    file = parse(name, "lockgate-root-envelope/1", raw)
    root = parse(name, "lockgate-root/1", text := unbase64(file["payload"]))
    signatures = [check_signature(name, s["key"], s["scheme"], unbase64(s["file"])) for s in file["signatures"]]
    need(signatures == sorted({s[0]: s for s in signatures}.values()), 3, f"{name}: signatures doubled or out of order")
    keys = dict(check_key(entry) for entry in root["keys"])
    need(len(keys) == len(root["keys"]), 3, f"{name}: a key is listed twice")
    for role, entry in root["roles"].items():
        held = [keys[key]["scheme"] for key in set(entry["keys"])]
        fine = len(held) == len(entry["keys"]) and 1 <= entry["threshold"] <= min(map(held.count, SCHEMES))
        need(fine, 3, f"{name}: the threshold of role {role} is 0 or could never be met")
    return text, root, keys, signatures
def prove_chain(chain, fingerprint):
    """Versions from 1 on without gap, each signed by its own and the former root's threshold (4.4)."""
    former, known, found = None, {}, [hashlib.sha384(text).hexdigest() for text, _, _, _ in chain]
    need(fingerprint in found, 4, f"the chain does not hold the root that you trust; it holds {found}")
    for version, (text, root, keys, signatures) in enumerate(chain, 1):
        need(root["version"] == version, 4, f"root chain: expected version {version}, found {root['version']}")
        [threshold(f"root {version}", signatures, judge, "root") for judge in (former, root) if judge]  # R-ROOT-17
        prove(f"root {version}", text, signatures, known | keys)
        old, new = ((r or root)["roles"]["release"] for r in (former, root))
        kept = [keys[key]["scheme"] for key in {*old["keys"]} & {*new["keys"]}]  # R-ROOT-14: who signed cannot again
        need("sequence_resets" not in root or max(map(kept.count, SCHEMES)) < new["threshold"], 4, "unrevoked reset")
        former, known = root, keys
    return former, known
# ---- Section 6: packs hold what was signed.
def unpack(file, pack, name, size):
    """Proves every stored byte, then decodes and proves the blobs; False if a coding is not known here."""
    signed = (pack["name"], sum(frame["size"] for frame in pack["frames"]))
    need((name, size) == signed, 3, f"expected {signed}, found {name, size}")
    with tempfile.NamedTemporaryFile() as stored:
        for number, frame in enumerate(pack["frames"]):
            data = take(file, frame["size"])
            need(hashlib.sha384(data).hexdigest() == frame["sha384"], 3, f"{name}: frame {number} differs")
            stored.write(data)
        take_padding(file, name, size)
        stored.flush(), stored.seek(0)
        need(pack["codec"] in ("raw", "zstd", "zstd-delta"), 3, f"{name}: unknown codec {pack['codec']}")
        if pack["codec"] != "zstd" or not shutil.which("zstd"):
            return pack["codec"] == "raw" and split(pack, stored)
        # The command would decode several frames; one and nothing else is allowed (R-PACK-5).
        listing = subprocess.run(["zstd", "-lv", stored.name], capture_output=True, text=True).stdout
        need(re.search(r"# Zstandard Frames: 1\n(?!# Skip)", listing), 3, f"{name}: not exactly one zstd frame")
        with subprocess.Popen(["zstd", "-dcq", "--memory=128MiB"], stdin=stored, stdout=-1, stderr=-3) as decoder:
            whole = split(pack, decoder.stdout)
        return need(decoder.returncode == 0, 3, f"{name}: zstd refuses it") or whole
def coded(stream, left):
    """The next coded bytes of a decoded stream, and not one fewer (R-PACK-3)."""
    for part in range(0, left, 1 << 20):
        yield (data := stream.read(min(left - part, 1 << 20)))
        need(len(data) == min(left - part, 1 << 20), 3, "a pack ends before its last blob")
def split(pack, stream):
    """Cuts a decoded stream into blobs and proves each (R-PACK-4, R-PACK-7); False if one could not be decoded."""
    for blob in pack["blobs"]:
        need(blob["coding"] in ("plain", "deflate-tokens"), 3, f"unknown coding {blob['coding']}")
        data, digest, plain = coded(stream, blob["coded"]), hashlib.sha256(), blob["coding"] == "plain"
        data = data if plain or not tokens else tokens.gzip(data, blob["size"])
        found = sum(digest.update(part) or len(part) for part in data), "sha256:" + digest.hexdigest()
        need(found == (blob["size"], blob["digest"]) or not (plain or tokens), 3, f"blob {blob['digest']} differs")
    need(not stream.read(1), 3, f"{pack['name']}: bytes behind the last blob")
    return tokens or all(blob["coding"] == "plain" for blob in pack["blobs"])
def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("bundle"), cli.add_argument("fingerprint"), cli.add_argument("--now")
    cli.add_argument("--policy", choices=POLICIES, default="hybrid"), cli.add_argument("--floor", type=int, default=1)
    with open((args := cli.parse_args()).bundle, "rb") as file:
        (name, size), former, signatures, chain, undecoded = member(file), "", [], [], []
        need(name == "manifest.json", 3, f"expected manifest.json first, found {name!r}")
        (document, left), (name, size) = take_member(file, name, size, 16 << 20, 24 << 20), member(file)
        while form := re.fullmatch(r"signatures/([0-9a-f]{16})\.(minisig|ml-dsa-87)", name):
            need(name > former and len(signatures) < 64, 3, "signatures out of order, or more than 64")
            scheme, former = form[2].replace("minisig", SCHEMES[0]), name
            (raw, left), (name, size) = take_member(file, name, size, 64 << 10, left), member(file)
            signatures.append(check_signature(former, form[1], scheme, raw))
        while name == f"root/{len(chain) + 1:05}.json" and len(chain) < 1024:
            (raw, left), (name, size) = take_member(file, name, size, 1 << 20, left), member(file)
            chain.append(read_root(f"root {len(chain) + 1}", raw))
        need(name == "" or name.startswith("packs/"), 3, f"unexpected member {name}")
        root, keys = prove_chain(chain, args.fingerprint)
        prove("manifest", document, signatures, keys)
        roles = {"release", "builder"} & root["roles"].keys()  # two hands, where builders are named (R-SIG-12)
        proved = all([threshold("manifest", signatures, root, role, args.policy) for role in roles])
        # From here on the manifest is what the signers signed, if that is proved.
        m, identity = parse("manifest", "lockgate-manifest/1", document), hashlib.sha384(document).hexdigest()
        said = f"lockgate manifest product={m['product']} release={m['release']} sequence={m['sequence']}"
        said += f" marking={m['marking'].replace(' ', '_')} sha384={identity}"
        need(all(comment in (None, said) for _, _, comment, _ in signatures), 3, "a signed comment on something else")
        need(m["sequence"] >= args.floor, 5, f"sequence {m['sequence']} is below the floor {args.floor}")
        need(not args.now or args.now < (m["expires"] or "never"), 5, f"expired at {m['expires']}")
        for pack in m["packs"]:
            undecoded += [] if unpack(file, pack, name, size) else [f"{pack['name']} ({pack['codec']})"]
            name, size = member(file)
        need(name == "", 3, f"a member that the manifest does not have: {name}")
    word = "PASS " if proved else "NOTE  NOT PROVED who signed"
    print(f"{word} bundle {identity}: {len(chain)} roots, {len(signatures)} signatures, {len(m['packs'])} packs")
    print(f"{word} {m['product']} {m['release']}, sequence {m['sequence']}, marking {m['marking']}")
    print("NOTE  ML-DSA-87 signatures were counted, not verified: Python's standard library has no such algorithm")
    print(f"NOTE  not decoded here, frames proved: {', '.join(undecoded)}" if undecoded else "PASS  every blob")
    return 1 if undecoded or not proved else 0
if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # What is none of the first two comes from a document that is not as the format says.
        code, why = error.args if isinstance(error, Refused) else (6 if isinstance(error, OSError) else 3, repr(error))
        print("FAIL ", why.encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        sys.exit(code)
