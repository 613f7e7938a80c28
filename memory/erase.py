"""Forgetting: everything held about a source, an episode or a text goes, and a receipt stays that can be checked.

Covered: episodes with every inner call, audits, feedback, outcomes, quarantine, lessons, the journal, rejected lines,
backups, what a crash left of one, and databases that a restore put aside. Not covered: what an adapter learnt (the
receipt names the adapters, so that they can be retired and retrained without it), names of skills, the log of events.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from memory import codec, journal, migrations, outcomes
from memory.backup import DAMAGED
from memory.base import JOURNAL, Base, connect
from memory.copies import backups, erase_unfinished
from memory.episodes import holds, needle
from memory.errors import BadInput, NotFound
from memory.rows import Receipt, ReceiptCheck
from memory.writer import transact

SHORTEST_TEXT = 4  # characters; a shorter text would match nearly everything
HASH_HEX = 32  # hex digits kept of an erased id's hash: 128 bits

_BY_SOURCE = "SELECT seq, id FROM episodes WHERE source = ?"
_BY_ID = "SELECT seq, id FROM episodes WHERE id = ?"
_BY_TEXT = """
SELECT e.seq, e.id FROM episodes e JOIN bodies b ON b.seq = e.seq WHERE holds(b.body, :text)
UNION SELECT e.seq, e.id FROM audits a JOIN episodes e ON e.seq = a.episode WHERE holds(a.body, :text)
UNION SELECT e.seq, e.id FROM feedback f JOIN episodes e ON e.seq = f.episode WHERE says(f.correction, :text)
UNION SELECT e.seq, e.id FROM lessons l JOIN episodes e ON e.id = l.episode_id WHERE holds(l.body, :text)
"""
_LEARNERS = """
SELECT DISTINCT a.adapter FROM adapter_lessons a JOIN lessons l ON l.id = a.lesson WHERE l.episode_id = ?
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be forgotten."""

    kind: str  # "source" | "episode_id" | "text"
    what: str


class Erasure(Base):
    """Forget, and prove it."""

    def forget(self, *, source: str | None = None, episode_id: str | None = None, text: str | None = None) -> Receipt:
        """Delete everything held about one of: a source, an episode, every episode in which a text occurs
        (whatever its case, in any inner call). Waits until it is done; requests go on meanwhile.

        Raises:
            BadInput: not exactly one of the three, or a text shorter than 4 characters.
            NotFound: nothing is held about it.
        """
        target = _target(source, episode_id, text)
        settle = self._writing().settle
        now = self.clock()

        def run(con: sqlite3.Connection) -> Receipt:
            settle()  # first, or a crash would replay what is deleted next
            receipt = transact(con, lambda con: _forget(con, target, now))
            con.execute("VACUUM")
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return receipt

        with self._copying:
            self._scrub(target, backups(self.state_dir))
            return self._write(run, transaction=False)

    def receipts(self) -> list[Receipt]:
        """Every erasure, oldest first."""
        rows = self._rows("SELECT body FROM receipts ORDER BY rowid")
        return [codec.decode(Receipt, row["body"].encode()) for row in rows]

    def receipt(self, receipt_id: str) -> Receipt:
        """One receipt.

        Raises:
            NotFound: no such receipt.
        """
        row = self._row("SELECT body FROM receipts WHERE id = ?", (receipt_id,))
        if row is None:
            raise NotFound(f"there is no receipt {receipt_id}", param="receipt_id")
        return codec.decode(Receipt, row["body"].encode())

    def verify_receipt(self, receipt_id: str, what: str | None = None) -> ReceiptCheck:
        """Check that a receipt is unchanged and that what it names is still gone, in the database and the backups.

        The receipt holds keyed hashes alone. With `what` (the source, id or text itself) it is also checked that the
        receipt is about that; for a text this is the only way to look for the text itself again.
        """
        self.flush()
        receipt = self.receipt(receipt_id)
        with self._read() as con:
            key = _key(con)
        if not hmac.compare_digest(receipt.digest, _digest(key, receipt)):
            return ReceiptCheck(False, "the receipt was changed after it was written", 0)
        if what is not None and _hash(key, receipt.kind, what) != receipt.what_hash:
            return ReceiptCheck(False, f"the receipt is about another {receipt.kind}", 0)
        places = (self.path, *backups(self.state_dir))
        remains = sum(_remains(place, key, receipt, what) for place in places)
        remains += _journal_remains(self.state_dir / JOURNAL, key, receipt)
        reason = (
            "nothing that was erased is held" if remains == 0 else f"{remains} rows that were erased are held again"
        )
        return ReceiptCheck(remains == 0, reason, remains)

    def _scrub(self, target: Target, copies: list[Path]) -> None:
        """The same deletion wherever else the data lies. A backup of an older schema is removed as a whole."""
        for path in copies:
            if migrations.version(path) == len(migrations.MIGRATIONS):
                _scrub_copy(path, target)
            else:
                journal.erase(path)
        erase_unfinished(self.state_dir)
        for path in self.state_dir.glob(f"{DAMAGED}*"):
            journal.erase(path)
        (self.state_dir / JOURNAL / journal.REJECTED).unlink(missing_ok=True)


def _scrub_copy(path: Path, target: Target) -> None:
    """Delete in a copy, which stays as old as it was."""
    before = path.stat()
    with closing(connect(path)) as con:
        transact(con, lambda con: _delete(con, target, _seqs(con, target)))
        con.execute("VACUUM")
        con.execute("PRAGMA journal_mode = DELETE")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def erased(con: sqlite3.Connection) -> Callable[[str, str, float], bool]:
    """A test whether an episode (its id, source and time of asking) was forgotten here, for a merge that would bring
    it back: it is named by a receipt, or its source was forgotten after it asked."""
    key = _key(con)
    found = [
        codec.decode(Receipt, row["body"].encode()) for row in con.execute("SELECT body FROM receipts ORDER BY rowid")
    ]
    items = {item for receipt in found for item in receipt.item_hashes}
    sources = {receipt.what_hash: receipt.when for receipt in found if receipt.kind == "source"}  # the last one counts

    def gone(episode_id: str, source: str, asked_at: float) -> bool:
        if not found:
            return False
        return _item(key, episode_id) in items or asked_at < sources.get(_hash(key, "source", source), 0.0)

    return gone


def _target(source: str | None, episode_id: str | None, text: str | None) -> Target:
    given = {"source": source, "episode_id": episode_id, "text": text}
    targets = [Target(kind, what) for kind, what in given.items() if what is not None]
    if len(targets) != 1 or not targets[0].what.strip():
        raise BadInput("name exactly one of source, episode_id and text to forget")
    if text is not None and len(text.strip()) < SHORTEST_TEXT:
        raise BadInput(f"a text to forget has at least {SHORTEST_TEXT} characters", param="text")
    return targets[0]


def _forget(con: sqlite3.Connection, target: Target, now: float) -> Receipt:
    key = _key(con)
    seqs = _seqs(con, target)
    learners = {row[0] for name in seqs.values() for row in con.execute(_LEARNERS, (name,))}
    counts = _delete(con, target, seqs)
    if not any(counts.values()):
        raise NotFound(f"nothing is held about this {target.kind}")
    receipt = Receipt(
        id=f"rc-{uuid.uuid4().hex}",
        when=now,
        kind=target.kind,
        what_hash=_hash(key, target.kind, target.what),
        counts=counts,
        adapters=tuple(sorted(learners)),
        item_hashes=tuple(sorted(_item(key, name) for name in seqs.values())),
        digest="",
    )
    receipt = replace(receipt, digest=_digest(key, receipt))
    con.execute("INSERT INTO receipts (id, body) VALUES (?, ?)", (receipt.id, codec.encode(receipt).decode()))
    return receipt


def _seqs(con: sqlite3.Connection, target: Target) -> dict[int, str]:
    """Row numbers and ids of the episodes that are meant."""
    if target.kind == "text":
        con.create_function("holds", 2, holds, deterministic=True)
        con.create_function("says", 2, _says, deterministic=True)
        rows = con.execute(_BY_TEXT, {"text": needle(target.what)})
    else:
        rows = con.execute(_BY_SOURCE if target.kind == "source" else _BY_ID, (target.what,))
    return {int(row["seq"]): str(row["id"]) for row in rows}


def _delete(con: sqlite3.Connection, target: Target, seqs: dict[int, str]) -> dict[str, int]:
    """Rows deleted by table."""
    by_seq = [(seq,) for seq in seqs]
    by_id = [(name,) for name in seqs.values()]
    outcomes.clear(con, seqs)
    counts = {}
    lost = "DELETE FROM adapter_lessons WHERE lesson IN (SELECT id FROM lessons WHERE episode_id = ?)"
    for table, sql, rows in (
        ("adapter_lessons", lost, by_id),
        ("lessons", "DELETE FROM lessons WHERE episode_id = ?", by_id),
        ("quarantine", "DELETE FROM quarantine WHERE episode_id = ?", by_id),
        ("feedback", "DELETE FROM feedback WHERE episode = ?", by_seq),
        ("audits", "DELETE FROM audits WHERE episode = ?", by_seq),
        ("bodies", "DELETE FROM bodies WHERE seq = ?", by_seq),
        ("episodes", "DELETE FROM episodes WHERE seq = ?", by_seq),
    ):
        counts[table] = max(con.executemany(sql, rows).rowcount, 0) if rows else 0
    if target.kind == "source":  # what this source said about others' answers
        counts["feedback"] += con.execute("DELETE FROM feedback WHERE source = ?", (target.what,)).rowcount
    return counts


def _remains(path: Path, key: bytes, receipt: Receipt, what: str | None) -> int:
    items = set(receipt.item_hashes)
    with closing(connect(path, read_only=True)) as con:
        ids = con.execute("SELECT id FROM episodes UNION ALL SELECT episode_id FROM lessons")
        found = sum(_item(key, row[0]) in items for row in ids)
        if receipt.kind == "source":  # new asks of the same source are no remains
            rows = con.execute(
                "SELECT source, count(*) FROM episodes WHERE asked_at < ? GROUP BY source", (receipt.when,)
            )
            found += sum(row[1] for row in rows if _hash(key, "source", row[0]) == receipt.what_hash)
        if receipt.kind == "text" and what is not None:
            found += sum(name not in items for name in _seqs(con, Target("text", what)).values())
    return found


def _journal_remains(folder: Path, key: bytes, receipt: Receipt) -> int:
    items = set(receipt.item_hashes)
    return sum(_item(key, name) in items for name in _journal_ids(folder))


def _journal_ids(folder: Path) -> Iterator[str]:
    for segment in journal.segments(folder):
        for line in journal.read(segment):
            if not line.torn:
                record = orjson.loads(line.body)
                yield str(record["ask"]["id"] if line.kind == "episode" else record["episode_id"])


def _says(text: str | None, sought: str) -> bool:
    return text is not None and sought in needle(text)


def _key(con: sqlite3.Connection) -> bytes:
    row = con.execute("SELECT value FROM meta WHERE key = 'erasure_key'").fetchone()
    return bytes.fromhex(row["value"])


def _hash(key: bytes, kind: str, what: str) -> str:
    return hmac.new(key, f"{kind}:{what}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _item(key: bytes, episode_id: str) -> str:
    return _hash(key, "episode_id", episode_id)[:HASH_HEX]


def _digest(key: bytes, receipt: Receipt) -> str:
    """Keyed, over everything but itself; through JSON, so that a stored receipt gives the same."""
    body = orjson.dumps({**asdict(receipt), "digest": ""}, option=orjson.OPT_SORT_KEYS)
    return hmac.new(key, body, hashlib.sha256).hexdigest()
