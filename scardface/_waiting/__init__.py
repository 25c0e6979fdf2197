"""Who waits for what, and who gets it.

- `dispatcher` decides: a plain object without thread, lock, I/O or clock; messages in, effects out.
- `driver` is the one thread that calls it, with the one queue into which everybody else puts messages.
- `watcher` is blocked in SCardGetStatusChange, in the only waiting context, and posts what it sees.
- `request` is one acquisition: asks, takes an offered card, opens and checks it, hands it over.
- `removal` is one wait for an open card to go; `event_queue` is what one monitor has not heard yet.

What a finalizer, a weak reference's callback, a signal handler or the fork hook may do is one rule: put a message into a
`queue.SimpleQueue` (re-entrant by its documentation), set an attribute, or take an entry out of a dictionary. No lock, no thread,
no PC/SC.
"""
