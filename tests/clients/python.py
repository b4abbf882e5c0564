"""Asks a cluster through Python's etcd3 and fails on the first answer that is not what etcd's would be.

    python3 tests/clients/python.py HOST:PORT

The cluster must be empty, without users. The package is not kept up, and needs these pins:

    pip install etcd3==0.12.0 protobuf==3.20.3 tenacity==6.3.1
"""

import hashlib
import io
import sys
import threading

MISSING = 77  # Exit code: the package is not there.

try:
    import etcd3
except ImportError as error:
    print(f"python's etcd3 is not there: {error}", file=sys.stderr)
    sys.exit(MISSING)


def equal(got, expected, what):
    if got != expected:
        raise SystemExit(f"{what}: got {got!r}, expected {expected!r}")


def values(found):
    return [(meta.key, value) for value, meta in found]


def keys(client):
    equal(client.get("a"), (None, None), "a key that is not there")
    first = client.put("a", "1").header.revision
    equal(client.put("a", "2", prev_kv=True).prev_kv.value, b"1", "the value before")
    value, meta = client.get("a")
    equal((value, meta.create_revision, meta.mod_revision, meta.version), (b"2", first, first + 1, 2), "get")
    for name in "bc":
        client.put(f"p/{name}", name)
    equal(values(client.get_prefix("p/")), [(b"p/b", b"b"), (b"p/c", b"c")], "prefix")
    down = client.get_prefix("p/", sort_order="descend", sort_target="key")
    equal(values(down), [(b"p/c", b"c"), (b"p/b", b"b")], "prefix, last first")
    equal(values(client.get_range("a", "p/c")), [(b"a", b"2"), (b"p/b", b"b")], "range")
    equal(client.put_if_not_exists("a", "3"), False, "put if not there")
    equal(client.replace("a", "2", "3"), True, "replace")
    equal(client.get("a", serializable=True)[0], b"3", "serializable")
    equal(client.delete("missing"), False, "delete what is not there")
    equal(client.delete_prefix("p/").deleted, 2, "delete a prefix")
    client.compact(first + 1, physical=True)


def txns(client):
    t = client.transactions
    client.put("t", "1")
    done, answers = client.transaction(
        compare=[t.value("t") == "1", t.version("t") > 0, t.mod("t") > 0, t.create("t") > 0],
        success=[t.put("t", "2"), t.get("t"), t.delete("u")],
        failure=[t.get("t")],
    )
    equal((done, [value for value, _ in answers[1]]), (True, [b"2"]), "txn")
    done, answers = client.transaction(compare=[t.version("t") > 2], success=[], failure=[t.get("u")])
    equal((done, answers), (False, [[]]), "the other branch")


def watches(client):
    start = client.put("w", "0").header.revision
    events, cancel = client.watch("w", start_revision=start)
    client.put("w", "1")
    client.delete("w")
    got = []
    for event in events:
        got.append((type(event).__name__, event.value, event.mod_revision - start))
        if len(got) == 3:
            cancel()
    equal(got, [("PutEvent", b"0", 0), ("PutEvent", b"1", 1), ("DeleteEvent", b"", 2)], "watch")
    timer = threading.Timer(0.2, client.put, ["once", "x"])
    timer.start()
    equal(client.watch_once("once", timeout=10).value, b"x", "watch once")
    timer.join()
    try:
        events, _ = client.watch("w", start_revision=1)
        raise SystemExit(f"a watch of what is compacted was told {list(events)!r}")
    except etcd3.exceptions.RevisionCompactedError as error:
        equal(error.compacted_revision > 1, True, "the compacted revision")


def leases(client):
    lease = client.lease(600)
    client.put("l", "1", lease=lease)
    equal((lease.granted_ttl, list(lease.keys)), (600, [b"l"]), "lease")
    equal([answer.TTL for answer in client.refresh_lease(lease.id)], [600], "renewed")
    lease.revoke()
    equal(client.get("l"), (None, None), "the key of a lease that was revoked")
    with client.lock("mutex", ttl=30) as lock:
        equal(lock.is_acquired(), True, "lock")
        equal(client.lock("mutex", ttl=30).acquire(timeout=0.5), False, "a lock that is held")
    equal(client.lock("mutex", ttl=30).acquire(timeout=5), True, "a lock that was released")


def maintenance(client):
    members = [member.name for member in client.members]
    status = client.status()
    equal(status.leader.name in members, True, "the leader is a member")
    equal((status.version[:4], status.db_size > 0, status.raft_term > 0), ("3.6.", True, True), "status")
    equal((list(client.list_alarms()), client.hash() >= 0), ([], True), "alarms and hash")
    client.defragment()
    file = io.BytesIO()
    client.snapshot(file)
    content, digest = file.getvalue()[:-32], file.getvalue()[-32:]
    equal(len(content) % 512, 0, "whole blocks of the snapshot")
    equal(hashlib.sha256(content).digest(), digest, "the snapshot's hash")


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    with etcd3.client(host=host, port=int(port), timeout=20) as client:
        for part in (keys, txns, watches, leases, maintenance):
            part(client)
            print(f"{part.__name__}: as etcd")


main()
