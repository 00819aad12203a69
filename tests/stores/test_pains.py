"""The pains of kept conversations that others have met, and the tests that prove that they are not ours.

======  ===========================================================  =================================================
pain    what happened to others                                      rule here
======  ===========================================================  =================================================
S1      a partial answer is lost on a stop, a closed tab, a crash    the turn is kept before it is asked, and journaled
S2      stopping and disconnecting are the same                      only ``cancel`` ends a detached turn
S3      events are replayed twice                                    a cursor, or a reset and the whole turn
S4      a cursor of another generation is taken                      cursors name the turn and its epoch
S5      the end never arrives                                        readers look at the turn itself, too
S6      a late reader finds nothing                                  events stay for ``Journal.keep``, then the node
S7      a turn runs for ever after a crash                           leases, epochs, fences
S8      a side channel stops the answer                              the reader gets all; the error comes at the end
S9      a stale copy overwrites the whole conversation               nodes are appended, and never written again
S10     long conversations are slow to open                          the path is read, the rest when it is asked for
S11     clocks decide the order                                      the database's counter does
S12     "database is locked"                                         immediate transactions, one writer, patience
S13     a write-ahead log on a network disk corrupts the file        it is refused in words
S14     poolers and prepared statements                              ``pooled=True``
S15     notifications are too small                                  they name the turn, the rows have the events
S16     a side channel (Redis) is emptied under its readers          rows are the truth, all else is a hint
S17     a cancelled task loses its connection                        work of the database is shielded
S18     the process does not exit                                    no thread of ours holds it
S19     migrations run twice, half, or silently                      one transaction under a lock, or a refusal
S20     deleted is not gone                                          secure delete, index optimised, log truncated
======  ===========================================================  =================================================

S16 is tried with the one side channel that is used here: the server ends the connections that listen, in mid-turn.
"""

from datetime import datetime
from importlib import import_module
from uuid import uuid4

import pytest

from dhenara_async import ConversationNode
from dhenara_async.stores import MemoryStore, SQLStore, memory
from dhenara_async.stores.sql import store as sql_store

PROVED = {
    "S1": ("test_crashes.test_processes_that_are_killed_at_random_moments",),
    "S2": ("test_journal.test_another_manager_cancels",),
    "S3": ("test_journal.test_another_manager_reads_at_every_cursor_of_a_running_and_an_ended_turn",),
    "S4": ("test_journal.test_another_manager_reads_at_every_cursor_of_a_running_and_an_ended_turn",),
    "S5": ("test_journal_faults.test_a_reader_whose_wake_ups_are_lost_ends_all_the_same",),
    "S6": ("test_journal.test_another_manager_reads_at_every_cursor_of_a_running_and_an_ended_turn",),
    "S7": ("test_crashes.test_processes_that_are_killed_at_random_moments",),
    "S8": (
        "test_journal_faults.test_a_full_disk_stops_no_stream_and_the_end_names_the_turn",
        "test_journal_faults.test_a_server_that_is_stopped_stops_no_stream",
    ),
    "S9": ("test_many_workers.test_workers_on_postgres_lose_no_turn",),
    "S10": (
        "test_large_trees.test_a_large_tree_is_opened_by_its_path_and_loaded_when_asked_for",
        "test_large_trees.test_what_opening_reads_does_not_grow_with_the_tree",
    ),
    "S11": ("test_pains.test_no_clock_decides_an_order",),
    "S12": ("test_many_workers.test_processes_that_open_one_new_sqlite_file_together_lose_no_turn",),
    "S13": ("test_sql_store.test_a_network_file_system_is_refused_in_words",),
    "S14": (
        "test_pooler.test_every_promise_is_kept_through_a_pooler",
        "test_pooler.test_a_turn_is_read_by_another_process_through_a_pooler",
    ),
    "S15": ("test_journal.test_a_reader_elsewhere_gets_an_event_of_two_megabytes",),
    "S16": ("test_journal_faults.test_a_reader_whose_notifications_are_lost_in_mid_turn_reads_the_rows",),
    "S17": (
        "test_sql_store.test_cancelled_calls_leave_the_connections_usable",
        "test_postgres.test_cancelled_calls_leave_the_pool_full",
    ),
    "S18": (
        "test_sql_store.test_a_program_that_never_closes_its_store_ends",
        "test_sql_store.test_a_program_that_ends_while_another_one_locks_the_file_waits_no_longer",
    ),
    "S19": (
        "test_many_workers.test_processes_that_open_one_new_sqlite_file_together_lose_no_turn",
        "test_migrations.test_databases_of_every_version_are_migrated_with_their_conversations",
        "test_postgres.test_a_database_is_migrated_by_the_command_only",
        "test_sql_store.test_a_migration_that_breaks_off_leaves_nothing_and_is_made_again",
        "test_sql_store.test_a_newer_schema_is_refused_in_words",
    ),
    "S20": (
        "test_sql_store.test_deleted_words_are_nowhere_in_the_files",
        "test_large_files.test_a_large_file_is_stored_once_for_its_owner_and_goes_with_its_last_conversation",
    ),
}


@pytest.mark.parametrize("pain", PROVED)
def test_every_pain_has_its_tests(pain: str) -> None:
    assert f"\n{pain} " in (__doc__ or "")
    for proof in PROVED[pain]:
        module, _, name = proof.partition(".")
        assert hasattr(import_module(f"tests.stores.{module}"), name), proof


async def test_no_clock_decides_an_order(store: MemoryStore | SQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks run backward here, and some times are equal."""
    times = [f"2026-11-22T10:00:{second:02}+00:00" for second in (50, 40, 40, 30, 20, 20, 10, 5, 1, 0)]
    clock = iter(times * 10)
    if isinstance(store, SQLStore):
        monkeypatch.setattr(sql_store, "_now", lambda: next(clock))
    else:
        monkeypatch.setattr(memory, "_now", lambda: datetime.fromisoformat(next(clock)))
    mine = store.scoped(uuid4().hex)
    for number in range(5):
        await mine.create(f"talk-{number}")
    page = await mine.list(limit=2)
    ids = [item.id for item in page.items]
    while page.next is not None:
        page = await mine.list(limit=2, before=page.next)
        ids += [item.id for item in page.items]
    assert ids == [f"talk-{number}" for number in (4, 3, 2, 1, 0)]

    root = ConversationNode(timestamp=times[0], user_query="paint")
    nodes = [root.changed(id=uuid4().hex, parent_id=root.id, timestamp=time) for time in times]
    for node in (root, *nodes):
        await mine.append("talk-0", node)
    loaded = await mine.load("talk-0")
    assert (loaded.nodes, loaded.head) == ((root, *nodes), nodes[-1])
    assert loaded.children(root.id) == tuple(nodes)
    assert [hit.node for hit in await mine.search("paint")] == [node.id for node in (*reversed(nodes), root)]
