"""What names, values and documents of a Lockgate bundle look like (docs/spec/bundle-format.md 1, 3, 4.1, 4.3, 5, 8).

verify_bundle.py asks this file, where it lies beside it, for what is wrong with a document. It can only refuse more:
what the signers signed, and that the packs hold it, is proved there.

A rule is a dict of fields in their order (`x?` may be absent), a list of one rule, a tuple of alternatives, a
pattern for a whole text, or a test."""
import base64, datetime, re

def fits(value, rule):
    try:
        if isinstance(rule, dict):
            names = [name.rstrip("?") for name in rule if name[-1] != "?" or name[:-1] in value]
            return list(value) == names and all(fits(value[n], rule.get(n) or rule[n + "?"]) for n in names)
        if isinstance(rule, list):
            return isinstance(value, list) and all(fits(item, rule[0]) for item in value)
        if isinstance(rule, tuple):
            return any(fits(value, one) for one in rule)
        return bool(rule.fullmatch(value) if isinstance(rule, re.Pattern) else rule(value))
    except (TypeError, ValueError, AttributeError, LookupError):
        return False

def const(*values):
    return lambda value: any(value == one and type(value) is type(one) for one in values)

def number(low, high):
    return lambda value: type(value) is int and low <= value <= high

def most(limit, rule):
    return lambda value: len(value) <= limit and fits(value, [rule])

def line(text):
    return SHOWN.fullmatch(text) and len(text.encode()) <= 240

def word(text):
    return line(text) and text[0] != "-"

def command(words):
    fine = all(len(one.encode()) <= 4096 and "\0" not in one for one in words)
    return isinstance(words, list) and len(words) <= 64 and word(words[0]) and fine

def time(text):
    return TIME.fullmatch(text) and datetime.datetime.fromisoformat(text[:-1])

def marking(text):
    level, _, rest = text.partition("//")
    codes = (re.findall("USA((?:, [A-Z]{3,4})+)", rest) or [""])[0].split(", ")[1:]
    controls = r"(ORCON/)?((NOFORN/)?(PROPIN/)?|(PROPIN/)?(REL TO USA(, [A-Z]{3,4})+/)?(RELIDO/)?)"
    return text in LEVELS or level in LEVELS[2:] and rest and re.fullmatch(controls, rest + "/") and \
        codes == sorted(set(codes) - {"USA"})

LEVELS = ["UNCLASSIFIED", "CUI", "CONFIDENTIAL", "SECRET", "TOP SECRET"]
TIME = re.compile(r"(19[7-9]|[2-9]\d\d)\d(-\d\d){2}T\d\d(:\d\d){2}Z", re.A)
# No control, bidirectional or zero-width character, no backslash (R-NAM-5).
SHOWN = re.compile("[^\0-\x1f\x7f-\x9f\\\\\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
                   "\ufff9-\ufffb\U000e0000-\U000e007f]+")
LABEL = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FILE = re.compile(r"(?=.{1,240}\Z)[\w+@~%][\w.+@~%-]*", re.A)
PATH = re.compile(r"(?=.{1,240}\Z)(?!(.*/)?\.\.?(/|\Z))[\w.+@][\w.+@-]*(/[\w.+@][\w.+@-]*){0,31}", re.A)
IMAGE = re.compile(r"(?=.{1,240}\Z)([\dA-Za-z.-]*\.[\dA-Za-z.-]*(:\d{1,5})?|localhost|[\dA-Za-z-]+:\d{1,5})"
                   r"(/[a-z\d]([a-z\d._-]*[a-z\d])?)+:\w[\w.-]{0,127}", re.A)
HOST = re.compile("[A-Za-z0-9.:-]{1,253}")
DIGEST, SHA384, KEY = map(re.compile, ("sha256:[0-9a-f]{64}", "[0-9a-f]{96}", "[0-9a-f]{16}"))
NULL, ANY, COUNT = const(None), number(0, 2**64 - 1), number(1, 2**63 - 1)

SCHEME, ROLE = const("ed25519", "ml-dsa-87"), {"threshold": COUNT, "keys": [KEY]}
ENVELOPE = {"format": str, "payload": base64.b64decode, "signatures": [
    {"key": KEY, "scheme": SCHEME, "file": base64.b64decode}]}
ROOT = {
    "format": str, "version": number(1, 2**64 - 1), "issued": time, "expires": time,
    "keys": most(256, {"id": KEY, "scheme": SCHEME, "holder": LABEL, "public": base64.b64decode}),
    "roles": {"root": ROLE, "release": ROLE, "transfer?": ROLE, "builder?": ROLE, "approve?": ROLE},
    "sequence_resets?": most(100, {"product": LABEL, "sequence": COUNT, "security_epoch?": number(0, 2**63 - 1)})}

EXEC = {"kind": const("exec"), "name": LABEL, "container": LABEL, "command": command, "expect": (NULL, line)}
HTTP = {"kind": const("http"), "name": LABEL, "port": number(1, 65535), "path": re.compile("/[!-~]{0,239}"),
        "status": number(0, 65535)}
POSTGRES = {"method": const("postgres"), "container": LABEL, "database": word, "host": word}
LIFECYCLE = {
    "security_epoch": number(0, 2**63 - 1), "from": (NULL, {"min": ANY, "max": ANY}),
    "deadline_seconds": number(1, 86400), "stable_seconds": number(0, 3600), "checks": most(100, (EXEC, HTTP)),
    "data": most(100, {"volume": LABEL, "backup": ({"method": const("copy")}, POSTGRES), "keep": number(1, 1000)}),
    "migrations": most(100, {"name": LABEL, "since": COUNT, "container": LABEL, "up": command})}
DELTA = {"base": DIGEST, "coding": LABEL, "coded": ANY, "segments": [
    {"stored": number(1, 65 << 20), "coded": number(1, 64 << 20), "from": ANY, "len": number(0, 128 << 20)}]}
MANIFEST = {
    "format": str, "product": LABEL, "release": FILE, "sequence": COUNT, "marking": marking, "platform": PATH,
    "title": line, "created": time, "expires": (NULL, time), "requires": {"memory_mib": ANY, "disk_mib": ANY},
    "lifecycle": LIFECYCLE, "network": {"name": LABEL, "internal": const(True, False)},
    "images": [{"name": str, "tag": str, "digest": DIGEST, "manifest": DIGEST, "media_type": line, "blobs": [DIGEST]}],
    "secrets": [({"kind": const("password"), "name": LABEL},
                 {"kind": const("tls-self-signed"), "name": LABEL, "hosts": [HOST]})],
    "workloads": [{"name": LABEL, "digest": DIGEST}], "files": [{"path": PATH, "digest": DIGEST}],
    "runtime": [{"os": PATH, "install": [PATH], "packages": [{"name": FILE, "digest": DIGEST}]}],
    "attachments": [({"kind": const("sbom"), "image": DIGEST, "format": FILE, "origin": const("publisher", "builder"),
                      "digest": DIGEST}, {"kind": const("provenance"), "digest": DIGEST})],
    "bases": most(16, {"release": FILE, "sequence": ANY, "manifest_sha384": (NULL, SHA384), "blobs": [
        {"digest": DIGEST, "size": ANY}]}),
    "packs": most(10000, {"name": PATH, "codec": LABEL, "bases": [number(0, 2**32 - 1)], "frames": [
        {"size": number(1, 8 << 20), "sha384": SHA384, "sha256": DIGEST}], "blobs": [
        {"digest": DIGEST, "size": ANY, "coding": LABEL, "coded": ANY, "delta": (NULL, DELTA)}]})}
RULES = {"lockgate-root-envelope/1": ENVELOPE, "lockgate-root/1": ROOT, "lockgate-manifest/1": MANIFEST}

def fault(kind, value):
    """What is wrong with a document of this format; nothing if nothing is."""
    rule = RULES[kind]
    wrong = [name for name in rule if name in value and not fits(value[name], rule[name])]
    if wrong or not fits(value, rule):
        return f"not as the format says: {wrong or 'the fields'}"
    return {"lockgate-root/1": root_fault, "lockgate-manifest/1": manifest_fault}.get(kind, lambda _: None)(value)

def root_fault(root):
    """Ed25519 keys are of full order (R-SIG-2); optional roles are persons of their own (R-ROOT-11 to 13)."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p)
    for entry in root["keys"]:
        if entry["scheme"] == "ed25519":  # RFC 8032, 5.1.3: x^2 = (y^2 - 1) / (d y^2 + 1)
            y = int.from_bytes(base64.b64decode(entry["public"])[10:42], "little") % 2**255
            square = pow((y * y - 1) * pow(d * y * y + 1, -1, p), (p - 1) // 2, p) == 1
            if not square or y * (d * y**4 + 2 * y * y - 1) % p == 0:
                return f"key {entry['id']} is no point of full order on the curve"
    roles, resets = root["roles"], root.get("sequence_resets")
    if not root["issued"] < root["expires"] or resets == [] or resets and root["version"] == 1:
        return "it expires before it is issued, or resets sequences where it must not"
    if resets and not rising([reset["product"] for reset in resets]):
        return "sequence_resets: products doubled or unsorted"
    if "approve" in roles and roles["approve"]["threshold"] < 2:
        return "one approver alone"
    for role in roles.keys() - {"root", "release"}:
        own = [entry for entry in root["keys"] if entry["id"] in roles[role]["keys"]]
        others = {entry["holder"] for entry in root["keys"] if entry not in own}
        elsewhere = {key for name, entry in roles.items() if name != role for key in entry["keys"]}
        persons = [(entry["holder"], entry["scheme"]) for entry in own]
        if len(set(persons)) < len(persons) or {entry["id"] for entry in own} & elsewhere or \
                {entry["holder"] for entry in own} & others:
            return f"role {role}: somebody is two, or holds another key too"
    return None

def rising(items):
    return all(a < b for a, b in zip(items, items[1:]))

def manifest_fault(m):
    """R-MAN-4 to 9, R-LIF-1 and 4."""
    life, paths = m["lifecycle"], [file["path"].lower() for file in m["files"]]
    lists = [paths, [f"{image['name']}@{image['digest']}" for image in m["images"]], [r["os"] for r in m["runtime"]],
             *([package["name"].lower() for package in runtime["packages"]] for runtime in m["runtime"]),
             *([entry["name"] for entry in part]
               for part in (m["workloads"], m["secrets"], life["checks"], life["migrations"])),
             [entry["volume"] for entry in life["data"]]]
    if any(len(set(names)) < len(names) for names in lists):
        return "a name appears twice"
    known = set(paths)
    if any(path[:i] in known for path in paths for i in range(len(path)) if path[i] == "/"):
        return "a file lies below a file"
    if life["from"] and life["from"]["min"] > life["from"]["max"]:
        return "lifecycle.from holds no sequence"
    packed = [blob for pack in m["packs"] for blob in pack["blobs"]]
    held = [blob for base in m["bases"] for blob in base["blobs"]]
    segments = sum(len(blob["delta"]["segments"]) for blob in packed if blob["delta"])
    frames = sum(len(pack["frames"]) for pack in m["packs"])
    if len(packed) + len(held) > 100000 or frames > 200000 or segments > 100000:
        return "too many blobs, frames or segments"
    for number, pack in enumerate(m["packs"]):
        stored = sum(frame["size"] for frame in pack["frames"])
        size, coded = (sum(blob[part] for blob in pack["blobs"]) for part in ("size", "coded"))
        plain = all(blob["coded"] == blob["size"] for blob in pack["blobs"] if blob["coding"] == "plain")
        if pack["name"] != f"packs/{number:05}" or stored >= 8 << 30 or max(size, coded) >= 1 << 64 or not plain or \
                pack["codec"] == "raw" and stored != coded or not rising(pack["bases"]) or \
                max(pack["bases"], default=-1) >= len(m["bases"]):
            return f"pack {number}: its name, its sizes or its base sets"
        if any((blob["delta"] is None) == (pack["codec"] == "zstd-delta") for blob in pack["blobs"]):
            return f"pack {number}: deltas stand in packs of codec zstd-delta and nowhere else"
        pieces = [piece for blob in pack["blobs"] if blob["delta"] for piece in blob["delta"]["segments"]]
        if pack["codec"] == "zstd-delta" and sum(piece["stored"] for piece in pieces) != stored:
            return f"pack {number}: its segments are not its stored bytes"
    return image_fault(m) or delta_fault(m) or carried_fault(m, packed, held)

def image_fault(m):
    """R-MAN-8, R-MAN-10 and the names of images."""
    for image in m["images"]:
        blobs = image["blobs"]
        if not IMAGE.fullmatch(f"{image['name']}:{image['tag']}"):
            return f"no image name: {image['name']!r}"
        if not rising(blobs) or not {image["digest"], image["manifest"]} <= set(blobs):
            return f"the blobs of image {image['name']}"
    about = [entry["image"] for entry in m["attachments"] if entry["kind"] == "sbom"]
    if len(set(about)) < len(about) or not set(about) <= {image["digest"] for image in m["images"]} or \
            len(m["attachments"]) - len(about) > 1:
        return "attachments: two for one image, one for none, or two provenance statements"
    return None

def sites(m):
    """For each kind of site (one for each base set, or one): its base set's blobs and the packs for it."""
    return [(base["blobs"], [pack for pack in m["packs"] if not pack["bases"] or number in pack["bases"]])
            for number, base in enumerate(m["bases"])] or [([], [pack for pack in m["packs"] if not pack["bases"]])]

def delta_fault(m):
    """R-PACK-8 to 10: bases that every site of the pack holds, pieces that add up and go forward."""
    for held, packs in sites(m):
        for blob in (blob for pack in packs for blob in pack["blobs"] if blob["delta"]):
            delta, pieces = blob["delta"], blob["delta"]["segments"]
            ends = [piece["from"] + piece["len"] for piece in pieces]
            starts = [piece["from"] for piece in pieces]
            if delta["base"] not in [entry["digest"] for entry in held] or starts != sorted(starts) or \
                    ends != sorted(ends) or max(ends, default=0) > delta["coded"] or \
                    sum(piece["coded"] for piece in pieces) != blob["coded"]:
                return f"the delta of blob {blob['digest']}"
    return None

def carried_fault(m, packed, held):
    """R-MAN-7: every site gets every blob that something names, once, and no other."""
    entries = [m["workloads"], m["files"], m["attachments"], *(runtime["packages"] for runtime in m["runtime"])]
    named = {entry["digest"] for part in entries for entry in part}
    named |= {digest for image in m["images"] for digest in image["blobs"]}
    sizes = {(blob["digest"], blob["size"]) for blob in packed + held}
    if len({digest for digest, _ in sizes}) < len(sizes) or not {blob["digest"] for blob in packed} <= named:
        return "a blob has two sizes, or is named by nothing"
    for base, packs in sites(m):
        own = [blob["digest"] for blob in base]
        got = [blob["digest"] for pack in packs for blob in pack["blobs"]]
        needed = {blob["delta"]["base"] for pack in packs for blob in pack["blobs"] if blob["delta"]}
        if not rising(own) or len(set(got)) < len(got) or set(got) & set(own) or not named <= {*got, *own} or \
                not set(own) <= named | needed:
            return "blobs doubled, missing, carried to sites that hold them, or held for nothing"
    return None
