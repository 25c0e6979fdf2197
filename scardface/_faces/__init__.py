"""What users touch: the async face and the sync face.

| module | what it is |
| --- | --- |
| `card` | what both faces of a card have in common |
| `scard` | the async `SCard`, written on `async_base`: everything that differs by `await` alone |
| `sync_scard` | the sync `SCard`, generated from `scard`, on `sync_base` |
| `async_base`, `sync_base` | what differs in kind: how a call is run, who waits for whom, how a card is acquired and closed |
| `card_lock` | the lock of an open card among the tasks that use it; among threads it is an RLock |
| `routes` | a logical channel, a layer: ways to an open card, the same for both faces |
| `monitor`, `sync_monitor` | the two `ReaderMonitor`s, each written: how they wait is what they are |
| `queries`, `sync_queries` | one look at PC/SC, written and generated; `blocking_queries` does it |

`python .ci/generate_sync.py` writes what is generated.

Who owns what: a card owns its acquisition until it is open, then its session (PC/SC's context and handle) and its worker (the
card's thread). A monitor owns its queue, which the driver fills. Nobody owns the driver: it ends after the last who waits.

What finalizers and signal handlers may call. They come between any two steps of a thread that may hold any lock, so what they
call waits for nothing, and may come twice. In this folder that is `cancel`, `cancel_all`, a card's hand-over of its close (in
`__del__`, and for a block that is thrown away), and the sync monitor's `close`. They may set attributes, append to lists, put
into a SimpleQueue, and call what does no more than that: `Acquisition.cancel` and `leave`, `RemovalWait.cancel` and `leave`,
`Driver.tell`, `Session.abandon_transaction`, `Worker.submit` and `finish`, `post` of a Loop and a WaitingThread. The one lock
that they take, `card._lock`, is re-entrant, so its own thread does not wait for itself, and other threads hold it for
assignments only. The sync `close` is for signal handlers, too, but not for finalizers: it waits for the card's thread, unless
the handler interrupted a call of the very card, which closes it then.
"""
