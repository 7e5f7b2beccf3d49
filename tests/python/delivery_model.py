#!/usr/bin/env python3
"""Executable model of the delivery protocol that the agent implements (docs/delivery.md).

The model explores, breadth first and without sampling, every interleaving of

  * two writers of one connection (one of them may be a zombie that believes it still owns the job),
  * crash and restart of either writer between any two steps,
  * four results of every conditional PUT: stored and answered; stored, answer lost; never stored, answer lost;
    delayed, so that it arrives at any later moment and lands if its slot is still free,
  * two results of a table commit whose answer is lost: applied or not applied.

Source row i goes to both tables.  A chain entry is ("claim", writer) or ("commit", writer, first_row, end_row).

Checked in every reachable state
  DUPLICATE  a table holds a row twice
  LOSS       a table has a hole; or a writer believes (and so tells the source) more than the chain holds;
             or nothing can happen any more and a table lacks rows
  STUCK      nothing can happen any more and no writer has finished

Generations, leases, clocks and garbage collection are left out on purpose: safety must not need them.

The safe variants must be SAFE with pruned=0 (the chain-length bound was never reached); every broken variant must be
caught (slot_reuse needs 2 rows or more).  Exit status 0 means exactly that.  Examples:

  delivery_model.py                                          all variants, 2 rows, 1 crash, 1 fault
  delivery_model.py --rows 3 --variant proposed              one variant, a larger bound
  delivery_model.py --variant slot_reuse --trace             shortest path to the violation
"""
import argparse
import sys
import time
from collections import deque
from typing import NamedTuple

TABLES = 2
CHAIN_MAX = 12
FREED = ("freed",)  # only in the slot_reuse variant: a slot whose key was deleted

SAFE_VARIANTS = {
    "proposed": "claim, commit by put-if-absent, marker in the table's own commit",
    "no_claim": "as proposed without the claim entry: later fencing and more wasted work, still safe",
    "lagging": "as proposed; several batches may be committed before tables follow, one table commit applies a run of entries",
}
BROKEN_VARIANTS = {
    "no_marker_check": "a committed entry is applied without looking at the table's marker",
    "zombie_rebase": "a writer that lost its slot puts the same batch on the new head",
    "state_after_data": "state is stored separately, after the data",
    "state_before_data": "state is stored separately, before the data",
    "unknown_is_success": "an unanswered PUT is taken for a success",
    "table_rebase": "marker checked on one table version, commit moved to a newer one",
    "slot_reuse": "compaction deletes the keys of old slots",
    "run_marker_low": "as lagging, but a run of entries leaves the marker of its first entry",
}
SEPARATE_STATE = ("state_after_data", "state_before_data")
LAGGING = ("lagging", "run_marker_low")


Bounds = NamedTuple("Bounds", [("rows", int), ("crashes", int), ("faults", int)])


class Writer(NamedTuple):
    step: str = "start"
    id: int = 0  # random id of this incarnation
    head: int = 0  # chain length this writer has seen
    state: int = 0  # rows it believes committed
    batch_end: int = 0
    entry: int = 0  # chain index being applied
    run_end: int = 0  # last chain index that this table commit applies
    table: int = 0  # table being applied
    version: int = -1  # table version on which the marker was checked


class Table(NamedTuple):
    rows: tuple = ()
    marker: int = -1  # chain index of the last applied entry, stored by the same commit as the rows
    version: int = 0


class World(NamedTuple):
    chain: tuple
    tables: tuple
    side_state: int  # used by the two variants that keep state apart from the data
    writers: tuple
    in_flight: frozenset  # delayed PUTs: (slot, entry)
    crashes: int
    faults: int
    next_id: int


def initial():
    return World((), (Table(),) * TABLES, 0, (Writer(), Writer()), frozenset(), 0, 0, 1)


def committed(chain):
    """Rows covered by the last commit entry: the state a new writer starts from."""
    for entry in reversed(chain):
        if entry[0] == "commit":
            return entry[3]
    return 0


def conditional_put(world, slot, entry, bounds):
    """Every result of put-if-absent: (answer, the fields of the world that change)."""
    chain, in_flight, faults = world.chain, world.in_flight, world.faults
    if len(chain) > slot:
        # A freed slot accepts the object, and no reader will ever look there.
        yield ("stored" if chain[slot] == FREED else "taken"), {}
        return
    stored = {"chain": chain + (entry,)}
    yield "stored", stored
    if faults < bounds.faults:
        fault = {"faults": faults + 1}
        yield "unknown", {**stored, **fault}
        yield "unknown", fault
        yield "unknown", {"in_flight": in_flight | {(slot, entry)}, **fault}


def successors(world, variant, bounds):
    """Every world one step away."""
    result = []
    for slot, entry in world.in_flight:
        chain = world.chain + (entry,) if len(world.chain) == slot else world.chain
        result.append(world._replace(chain=chain, in_flight=world.in_flight - {(slot, entry)}))
    if variant == "slot_reuse":
        result.extend(compacted(world))
    for index, writer in enumerate(world.writers):
        if world.crashes < bounds.crashes and writer.step not in ("start", "done", "fenced"):
            result.append(with_writer(world, index, Writer(), crashes=world.crashes + 1))
        for changed_writer, changes in STEPS[writer.step](world, index, writer, variant, bounds):
            result.append(with_writer(world, index, changed_writer, **changes))
    return result


def with_writer(world, index, writer, **changes):
    writers = (writer, world.writers[1]) if index == 0 else (world.writers[0], writer)
    return world._replace(writers=writers, **changes)


def compacted(world):
    """slot_reuse only: free the entries that every table has applied, keeping the last commit and what follows."""
    commits = [i for i, entry in enumerate(world.chain) if entry[0] == "commit"]
    if not commits:
        return
    keep_from = min([commits[-1]] + [table.marker for table in world.tables])
    if any(entry != FREED for entry in world.chain[:max(keep_from, 0)]):
        yield world._replace(chain=(FREED,) * keep_from + world.chain[keep_from:])


# The steps of one writer.  Each yields (writer afterwards, changed fields of the world).

def step_start(world, index, writer, variant, bounds):
    state = world.side_state if variant in SEPARATE_STATE else committed(world.chain)
    yield Writer("roll", world.next_id, len(world.chain), state), {"next_id": world.next_id + 1}


def step_roll(world, index, writer, variant, bounds):
    """Apply every committed entry, in order, to every table."""
    entry = writer.entry
    while entry < writer.head and world.chain[entry][0] != "commit":
        entry += 1
    if entry >= writer.head:
        if writer.state >= bounds.rows:
            yield writer._replace(step="done"), {}
        else:
            step = "batch" if variant in ("no_claim", "zombie_rebase") else "claim"
            yield Writer(step, writer.id, writer.head, writer.state, 0, writer.head), {}
        return
    table = world.tables[writer.table]
    if variant != "no_marker_check" and table.marker >= entry:
        yield advanced(writer._replace(entry=entry)), {}
    else:
        for run_end in range(entry, writer.head if variant in LAGGING else entry + 1):
            if world.chain[run_end][0] == "commit":
                yield writer._replace(step="table_commit", entry=entry, run_end=run_end, version=table.version), {}


def advanced(writer):
    """The same writer, one (entry, table) pair further."""
    if writer.table + 1 < TABLES:
        return writer._replace(step="roll", table=writer.table + 1, run_end=0, version=-1)
    return writer._replace(step="roll", entry=writer.entry + 1, table=0, run_end=0, version=-1)


def step_table_commit(world, index, writer, variant, bounds):
    """Optimistic commit of one entry, or of a run of them, to one table, on the version whose marker was checked."""
    table = world.tables[writer.table]
    look_again = writer._replace(step="roll", run_end=0, version=-1)
    if table.version != writer.version:
        yield (writer._replace(version=table.version) if variant == "table_rebase" else look_again), {}
        return
    run = [entry for entry in world.chain[writer.entry:writer.run_end + 1] if entry[0] == "commit"]
    rows = table.rows + tuple(row for _, _, first, end in run for row in range(first, end))
    marker = writer.entry if variant == "run_marker_low" else writer.run_end
    applied = Table(rows, max(table.marker, marker), table.version + 1)
    tables = tuple(applied if i == writer.table else t for i, t in enumerate(world.tables))
    yield advanced(writer), {"tables": tables}
    if world.faults < bounds.faults:
        yield look_again, {"tables": tables, "faults": world.faults + 1}
        yield look_again, {"faults": world.faults + 1}


def step_claim(world, index, writer, variant, bounds):
    for answer, changes in conditional_put(world, writer.head, ("claim", writer.id), bounds):
        if answer == "stored":
            yield claimed(writer), changes
        else:
            yield writer._replace(step="claim?", batch_end=0, table=0, version=-1), changes


def step_claim_unknown(world, index, writer, variant, bounds):
    """The PUT rule: read the slot before believing anything."""
    if len(world.chain) <= writer.head:
        yield writer._replace(step="claim"), {}
    elif world.chain[writer.head] == ("claim", writer.id):
        yield claimed(writer), {}
    else:
        yield lost(index, writer, variant), {}


def claimed(writer):
    return Writer("batch", writer.id, writer.head + 1, writer.state, 0, writer.head + 1)


def lost(index, writer, variant):
    """A lost slot: writer 1 opens again from the committed state, writer 0 stops (both occur in practice)."""
    return Writer() if index == 1 or variant == "no_claim" else writer._replace(step="fenced")


def step_batch(world, index, writer, variant, bounds):
    """The connector runs again from the committed state; where the batch ends is its own choice."""
    for end in range(writer.state + 1, bounds.rows + 1):
        yield writer._replace(step="commit", batch_end=end), {}


def step_commit(world, index, writer, variant, bounds):
    if variant == "state_before_data":
        yield writer._replace(step="commit_after_state"), {"side_state": writer.batch_end}
        return
    for answer, changes in conditional_put(world, writer.head, commit_entry(writer), bounds):
        if answer == "stored":
            for after in believers(writer, variant, bounds):
                yield after, changes
        else:
            yield writer._replace(step="commit?"), changes


def step_commit_unknown(world, index, writer, variant, bounds):
    if len(world.chain) <= writer.head:
        if variant == "unknown_is_success":
            yield believed(writer, "roll")._replace(head=writer.head), {}
        else:
            yield writer._replace(step="commit"), {}
    elif world.chain[writer.head] == commit_entry(writer):
        for after in believers(writer, variant, bounds):
            yield after, {}
    elif variant == "zombie_rebase":
        yield writer._replace(step="commit", head=len(world.chain)), {}
    else:
        yield lost(index, writer, variant), {}


def commit_entry(writer):
    return ("commit", writer.id, writer.state, writer.batch_end)


def believers(writer, variant, bounds):
    """What a writer may do once its commit is known to be stored."""
    after = believed(writer, "save_state" if variant == "state_after_data" else "roll")
    if variant in LAGGING:
        after = after._replace(entry=0)  # earlier entries may still wait
        if after.state < bounds.rows:
            yield after._replace(step="batch", entry=after.head)
    yield after


def believed(writer, step):
    """The writer takes its batch for committed: from here on it acknowledges the checkpoint to the connector."""
    return Writer(step, writer.id, writer.head + 1, writer.batch_end, 0, writer.head)


def step_commit_after_state(world, index, writer, variant, bounds):
    for answer, changes in conditional_put(world, writer.head, commit_entry(writer), bounds):
        yield (believed(writer, "roll") if answer == "stored" else Writer()), changes


def step_save_state(world, index, writer, variant, bounds):
    yield writer._replace(step="roll"), {"side_state": writer.state}


STEPS = {
    "start": step_start, "roll": step_roll, "table_commit": step_table_commit,
    "claim": step_claim, "claim?": step_claim_unknown, "batch": step_batch,
    "commit": step_commit, "commit?": step_commit_unknown,
    "commit_after_state": step_commit_after_state, "save_state": step_save_state,
    "done": lambda *_: (), "fenced": lambda *_: (),
}


def canonical(world):
    """Rename writer incarnations by order of appearance: worlds that differ only in names are one world."""
    in_flight = sorted(world.in_flight)
    identities = [entry[1] for entry in world.chain if entry != FREED]
    identities += [writer.id for writer in world.writers]
    identities += [entry[1] for _, entry in in_flight]
    names = {0: 0}
    for identity in identities:
        names.setdefault(identity, len(names))
    if all(old == new for old, new in names.items()):
        return world if world.next_id == len(names) else world._replace(next_id=len(names))

    def renamed(entry):
        return entry if entry == FREED else (entry[0], names[entry[1]]) + entry[2:]

    return world._replace(
        chain=tuple(map(renamed, world.chain)),
        writers=tuple(writer._replace(id=names[writer.id]) for writer in world.writers),
        in_flight=frozenset((slot, renamed(entry)) for slot, entry in in_flight),
        next_id=len(names),
    )


def violation(world):
    """A broken safety property of this world, or None."""
    for table in world.tables:
        if len(set(table.rows)) != len(table.rows):
            return "DUPLICATE"
        if table.rows != tuple(range(len(table.rows))):
            return "LOSS"
    if max(writer.state for writer in world.writers) > max((e[3] for e in world.chain if e[0] == "commit"), default=0):
        return "LOSS"
    return None


def bad_end(world, bounds):
    """What is wrong with a world in which nothing more can happen, or None."""
    if not any(writer.step == "done" for writer in world.writers):
        return "STUCK"
    if any(len(table.rows) != bounds.rows for table in world.tables):
        return "LOSS"
    return None


class Result(NamedTuple):
    verdict: str
    worlds: int
    pruned: int
    seconds: float
    path: list


def explore(variant, bounds, keep_path=False):
    started = time.monotonic()
    first = initial()
    reached = {first: None} if keep_path else {first}
    queue = deque([first])
    pruned = 0

    def result(verdict, world):
        path = []
        while keep_path and world is not None:
            path.append(world)
            world = reached[world]
        return Result(verdict, len(reached), pruned, time.monotonic() - started, path[::-1])

    while queue:
        world = queue.popleft()
        found = violation(world)
        following = () if found else successors(world, variant, bounds)
        if not found and not following:
            found = bad_end(world, bounds)
        if found:
            return result(found, world)
        for raw in following:
            successor = canonical(raw)
            if len(successor.chain) > CHAIN_MAX:
                pruned += 1
            elif successor not in reached:
                if keep_path:
                    reached[successor] = world
                else:
                    reached.add(successor)
                queue.append(successor)
    return result("SAFE", None)


def describe(world):
    writers = " ".join(f"w{i}={w.step}@{w.head} state={w.state}" for i, w in enumerate(world.writers))
    tables = " ".join(f"t{i}={list(t.rows)}<={t.marker}" for i, t in enumerate(world.tables))
    return f"chain={list(world.chain)} {tables} {writers} in_flight={sorted(world.in_flight)}"


def main():
    variants = {**SAFE_VARIANTS, **BROKEN_VARIANTS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2, help="source rows (default 2)")
    parser.add_argument("--crashes", type=int, default=1, help="crashes in total (default 1)")
    parser.add_argument("--faults", type=int, default=1, help="lost or delayed answers in total (default 1)")
    parser.add_argument("--variant", action="append", choices=sorted(variants), help="repeatable; default: all")
    parser.add_argument("--trace", action="store_true", help="print the shortest path to each violation")
    options = parser.parse_args()

    bounds = Bounds(options.rows, options.crashes, options.faults)
    chosen = options.variant or list(variants)
    unexpected = 0
    for variant in chosen:
        outcome = explore(variant, bounds, options.trace)
        right = (outcome.verdict == "SAFE" and outcome.pruned == 0) == (variant in SAFE_VARIANTS)
        unexpected += not right
        print(f"{variant:19} {outcome.verdict:9} worlds={outcome.worlds:>9,} pruned={outcome.pruned} "
              f"{outcome.seconds:7.1f}s  {'as expected' if right else 'NOT AS EXPECTED'}: {variants[variant]}", flush=True)
        for number, world in enumerate(outcome.path):
            print(f"  {number:2} {describe(world)}")
    print(f"{len(chosen) - unexpected}/{len(chosen)} variants as expected "
          f"(rows={bounds.rows} crashes={bounds.crashes} faults={bounds.faults})")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
