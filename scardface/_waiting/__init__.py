"""Who waits for what, and who gets it.

- `dispatcher` decides: a plain object without thread, lock, I/O or clock; messages in, effects out. Its state is in
  `dispatcher_state`, and `timeout_text` puts into words what stood between a waiter and a card.
- `driver` is the one thread that calls it, with the one queue into which everybody else puts messages (`messages`).
- `watcher` is blocked in SCardGetStatusChange, in the only waiting context, and posts snapshots of all readers.
- `acquisition` is one wait for a card: it opens and checks an offered card and hands it over. `serial_search` finds the readers
  with a serial number for it.
- `removal` is one wait for an open card to be removed; `event_queue` holds the events that one monitor has not read yet;
  `served_cards` the cards that have had their turn and are still in, for one who takes card after card.

Signal-safe: a function that any thread may call at any moment, and that finalizers, callbacks of weak references, signal handlers
and fork hooks may call, too. These run in the middle of anything, perhaps in a thread that holds a lock. So a signal-safe function,
here and in the faces, does nothing but this: it puts an item into a `queue.SimpleQueue` (documented to be re-entrant), posts a
callback into an event loop (`call_soon_threadsafe`, `run_sync_soon`), sets an attribute, appends to a list, adds or removes one
dictionary entry, or calls other signal-safe functions. It starts no thread, calls neither PC/SC nor code of the user, and takes no
lock but one: that of `_faces/card.py`, which is re-entrant, so that its own thread does not wait for itself, and which other
threads hold for assignments only.
"""
