"""Makes a repository of releases with python-tuf: root and targets 2 of 3, as phusa-hub does."""

import hashlib
import pathlib
import sys
from datetime import datetime, timedelta, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp,
)

folder = pathlib.Path(sys.argv[1])
(folder / "metadata").mkdir(parents=True)
(folder / "targets").mkdir()
ends = (datetime.now(timezone.utc) + timedelta(days=7)).replace(microsecond=0)
people = [CryptoSigner.generate_ed25519() for _ in range(3)]
hub = CryptoSigner.generate_ed25519()

program = b"made by python\n"
name = "phusa-agent-0.2.0-x86_64-linux"
digest = hashlib.sha256(program).hexdigest()
(folder / "targets" / f"{digest}.{name}").write_bytes(program)

target = TargetFile(len(program), {"sha256": digest}, name, {"custom": {
    "product": "phusa-agent", "version": "0.2.0", "system": "x86_64-linux", "min_version": "0.1.0"}})
targets = Metadata(Targets(expires=ends, targets={name: target}))
snapshot = Metadata(Snapshot(expires=ends, meta={"targets.json": MetaFile(1)}))
root = Metadata(Root(expires=ends, consistent_snapshot=True))
for role in ("root", "targets"):
    for person in people:
        root.signed.add_key(person.public_key, role)
    root.signed.roles[role].threshold = 2
for role in ("snapshot", "timestamp"):
    root.signed.add_key(hub.public_key, role)

for person in people[:2]:
    root.sign(person, append=True)
    targets.sign(person, append=True)
snapshot.sign(hub)
snapshot_bytes = snapshot.to_bytes()
timestamp = Metadata(Timestamp(expires=ends, snapshot_meta=MetaFile(
    1, len(snapshot_bytes), {"sha256": hashlib.sha256(snapshot_bytes).hexdigest()})))
timestamp.sign(hub)

root.to_file(str(folder / "metadata" / "1.root.json"))
targets.to_file(str(folder / "metadata" / "1.targets.json"))
(folder / "metadata" / "1.snapshot.json").write_bytes(snapshot_bytes)
timestamp.to_file(str(folder / "metadata" / "timestamp.json"))
