"""What fuzzing begins with: the golden files, the shipped configuration, first words of each format,
and what earlier runs kept. Usage: seeds.py CORPUS"""

import json
import pathlib
import struct
import sys
import tarfile

root = pathlib.Path(__file__).resolve().parents[2]
golden = root / "tests" / "golden"
corpus = pathlib.Path(sys.argv[1])
count = 0


def seed(target, data, *prefixes):
    """Writes one seed, once behind each prefix."""
    global count
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in prefixes or (b"",):
        (folder / f"seed-{count:03}").write_bytes(prefix + data)
        count += 1


def text(name):
    return (golden / name).read_text()


def documents(name):
    """The JSON documents that stand one after the other in a golden file."""
    decoder, rest = json.JSONDecoder(), text(name).strip()
    while rest.startswith("{"):
        value, end = decoder.raw_decode(rest)
        yield json.dumps(value, ensure_ascii=False).encode()
        rest = rest[end:].strip()


def part(data):
    return struct.pack(">H", len(data)) + data


header = text("header.golden").strip().encode()
for name in ("header.golden", "header_quality.golden"):
    seed("header", text(name).strip().encode())
body = bytes.fromhex(text("body.golden").replace("\n", ""))
seed("body", body, b"\x00", b"\x82", b"\x83", b"\x80")
frame = bytes.fromhex(text("frame.golden").replace("\n", ""))
seed("frame", frame)
seed("frame", b"\x00\x00\xa4" + body, b"\x00", b"\x02", b"\x80", b"\x81")
seed("frame", b"\x00\x00\x10\x28\xb5\x2f\xfd\x00\x58\x44\x00\x00\x10\x00\x00\x01\x00", b"\x01", b"\x81")
for which, name in ((0, "hello.golden"), (3, "receipt.golden"), (4, "proof.golden")):
    for at, document in enumerate(documents(name)):
        seed("messages", document, bytes([which + at]))
moment = "2026-11-21T08:43:20.000000Z"
digest, signature = "0" * 64, "A" * 86 + "=="
agent = "H57.12/may-1"
for which, value in (
    (8, {"consent": "{}", "signature": signature}),
    (11, {"invitation": "0" * 16, "agent": agent, "csr": "x", "signing_key": "A" * 43 + "=", "mac": digest}),
    (13, {"agent": agent, "generation": 1, "csr": "x", "signature": signature}),
):
    seed("messages", json.dumps(value).encode(), bytes([which]))
seed("messages", ("0" * 16 + "-" + "1" * 32 + "-" + digest).encode(), b"\x0e")
for name in ("entries.golden", "acts.golden"):
    for document in documents(name):
        seed("entry", document)
seed("tree", bytes([39, 3, 3, 0]) + bytes(range(40)))
seed("tree", b"tile/0/x001/x234/067.p/8")
seed("tree", b"tile/entries/001")
key = "b" * 64
name = f"sigsum.org/v1/tree/{digest}"
line = "\u2014 H57.12/may-1 " + "A" * 100 + "\n"
for seeded in (
    f"log {key} https://hub\nwitness a {key}\ngroup g any a\nquorum g\n",
    f"{name}\n12\n{'A' * 43}=\n\n{line}",
    line,
    f"version=2\nlog={digest}\nleaf={digest} {'0' * 128}\n\nsize=2\nroot_hash={digest}\n"
    f"signature={'0' * 128}\ncosignature={digest} 5 {'0' * 128}\n\nleaf_index=1\nnode_hash={digest}\n",
    "1.4.2",
    moment,
):
    seed("note", seeded.encode())
dataset = {
    "dataset": "cong_dan.citizens", "phase": "following", "epoch": 1, "spooled_seq": 3,
    "released_seq": 3, "position": "0/16B3748", "lag_seconds": 1, "rows": 9, "rejects": 0,
    "obstacle": {"code": "disk_failed", "since": moment}, "contract": digest, "mapping": digest,
}
report = {
    "v": 1, "agent": agent, "birth": moment, "started_at": moment, "at": moment, "version": "0.1.0", "skew_ms": 1,
    "datasets": [dataset], "spool": {"bytes": 1, "bytes_max": 2, "oldest": None},
    "disk_free_bytes": 5, "disk_reserve_bytes": 6, "certificate": {"from": moment, "until": moment},
    "update": {"running": "0.1.0", "stage": "idle", "target": None, "why": None, "obstacle": None, "since": moment},
}
data = json.dumps(report).encode()
seed("report", data, bytes(16))
seed("mqtt", data, b"\x03")
seed("mqtt", json.dumps({"birth": moment, "state": "born"}).encode(), b"\x05")
order = {"order": 7, "dataset": "cong_dan.citizens", "want": {"kind": "pause"}, "until": moment}
seed("mqtt", json.dumps({"v": 1, "agent": agent, "number": 1, "orders": [order]}).encode(), b"\x07")
connect = b"\x10\x18\x00\x04MQTT\x04\x02\x00\x1e\x00\x0cH57.12/may-1"
seed("mqtt", connect + b"\xc0\x00\x82\x08\x00\x01\x00\x03a/b\x01\xe0\x00", b"\x00")
facts = {"product": "phusa-agent", "version": "1.2.3", "system": "x86_64-linux", "min_version": "1.0.0"}
target = {"length": 9, "hashes": {"sha256": digest}, "custom": facts}
for value in (facts, target, {"v": 1, "agent": agent, "number": 7, "version": "1.2.3", "at": moment}):
    seed("release", json.dumps(value).encode())
for folder, targets in (
    ("configs/contracts", ["contract"]),
    ("configs", ["config", "config_hub", "lists"]),
    ("configs/datasets", ["config"]),
    ("configs/lists", ["config", "config_hub"]),
    ("configs/profile", ["config_hub"]),
    ("configs/agents", ["config_hub"]),
):
    for file in sorted((root / folder).glob("*.toml")):
        for one in targets:
            seed(one, file.read_bytes())
seed("lists", "code,name,valid_from\n1,\"Nam, \"\"nữ\"\"\",2026-01-01\n".encode())
# A byte order mark that is a value's own, behind the file's.
seed("lists", "\ufeff\ufeffcode,name\n1,Nam\n".encode())
seed("filter", "trang_thai in ('1', '2') and ngay >= '2026-01-01'".encode())
seed("decode", "NguyÔn V¨n A\nNguyeãn".encode("latin-1"))
seed("mapping", bytes(range(200)), b"\x00", b"\x02", b"\x04")
oid = struct.pack(">I", 0x4001)
row = b"\x00\x18t\x00\x00\x00\x011" + b"n" * 23
commit = b"C\x00" + bytes(8) + struct.pack(">Q", 210) + bytes(8)
for messages in (
    [b"I" + oid + b"N" + row, commit],
    [b"U" + oid + b"K" + row + b"N" + row],
    [b"D" + oid + b"O" + row, b"T\x00\x00\x00\x01\x00" + oid],
):
    seed("postgres", b"".join(map(part, messages)), b"\x00")
for at, value in enumerate((b"t", b"-5", b"12.50", b"2026-11-21", b"12:30:00.5+07", b"1 day 02:03:04", b"{1,2}", b"[1,5)", b"10.0.0.0/8")):
    for native in range(24):
        seed("postgres", value, bytes([2 * native + at % 2]))
null_row = b"\xfe\xff\xff\x03" + b"\x01\x00\x00\x00"
rows = b"\x07" + bytes(5) + b"\x01\x00" + b"\x1a" + b"\xff\xff\xff\x03"
numbers = struct.pack("<ibBHi", 1, -1, 2, 3, 0)[:11]
full = b"\x00" * 4 + bytes(120)
for code, image in ((23, null_row), (25, null_row), (23, full)):
    event = bytes([code, 0]) + rows + image
    seed("mysql", part(event) + part(b"\x10\x00" + bytes(8)), b"\x00", b"\x04")
update = b"\x18\x00" + rows + b"\xff\xff\xff\x03" + null_row + null_row
seed("mysql", part(update), b"\x00", b"\x04")
query = b"\x02\x00" + bytes(8) + b"\x01\x00\x00\x00\x00d\x00"
for statement in (b"truncate t", b"alter table t add x int", b"xa start 'a'", b"COMMIT", b"rollback"):
    seed("mysql", part(query + statement), b"\x00")
document = bytes([0, 2, 0, 44, 0, 18, 0, 1, 0, 19, 0, 2, 0, 2, 21, 0, 4, 0, 0]) + b"abb" + bytes(
    [2, 0, 14, 0, 5, 1, 0, 12, 10, 0, 3, 0xC3, 0xA9, 10]
)
seed("mysql", document, b"\x02")
for which in range(15):
    for native in range(12):
        seed("sqlserver", bytes([which, 0xC0 | native, 0, 0x0B, 0x24, 0x1B, 1, 2, 3, 4, 5, 6, 7]))
with tarfile.open(pathlib.Path(__file__).with_name("corpus.tar.xz")) as kept:
    for member in kept:
        if member.isfile():
            target, name = pathlib.PurePosixPath(member.name).parts[-2:]
            (corpus / target).mkdir(parents=True, exist_ok=True)
            (corpus / target / name).write_bytes(kept.extractfile(member).read())
            count += 1
print(f"{count} seeds in {corpus}")
