"""Judges root chains by the reference implementation of TUF (package `tuf`), for tests/tests/tuf.rs.

Reads one chain a line on standard input, as JSON: the Ed25519 half of our roots. Each becomes TUF root
metadata, signed here with the same raw Ed25519 keys; the root that the site trusts opens a
TrustedMetadataSet and the later ones go through update_root. Prints one JSON line for each chain:
{"version": the last trusted version} or {"refused": why}.
"""
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

KEYS = {}


def private(seed):
    return KEYS.setdefault(seed, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))


def metadata(link):
    keys = {
        key["id"]: {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key["public"]}}
        for key in link["keys"]
    }
    role = {"keyids": link["root"]["keys"], "threshold": link["root"]["threshold"]}
    release = {"keyids": link["release"]["keys"], "threshold": link["release"]["threshold"]}
    signed = {
        "_type": "root",
        "spec_version": "1.0.34",
        "consistent_snapshot": True,
        "version": link["version"],
        "expires": link["expires"],
        "keys": keys,
        "roles": {"root": role, "targets": release, "snapshot": release, "timestamp": release},
    }
    text = encode_canonical(signed).encode()
    signatures = []
    for signature in link["signatures"]:
        value = bytearray(private(signature["seed"]).sign(text if signature["over_this"] else text + b" "))
        value[0] ^= signature["flip"]
        signatures.append({"keyid": signature["id"], "sig": value.hex()})
    return json.dumps({"signed": signed, "signatures": signatures}).encode()


def judge(chain):
    try:
        links = chain["links"][chain["trusted"] :]
        trusted = TrustedMetadataSet(metadata(links[0]), EnvelopeType.METADATA)
        for link in links[1:]:
            trusted.update_root(metadata(link))
        return {"version": trusted.root.version}
    except RepositoryError as error:
        return {"refused": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(judge(json.loads(line))))
