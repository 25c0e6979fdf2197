"""The two faces, which programs use: the async one (`scardface`) and the sync one (`scardface.sync`).

| module | what it is |
| --- | --- |
| `card` | what both faces of a card have in common |
| `scard` | the async `SCard`, a subclass of `async_base`: every method whose two versions differ only by `await` |
| `sync_scard` | the sync `SCard`, generated from `scard`, a subclass of `sync_base` |
| `async_base`, `sync_base` | what is written twice: running a call, waiting for the card's turn, acquiring and closing |
| `card_lock` | the lock of an open card among the tasks that use it; among threads it is an RLock |
| `routes` | sending through a logical channel or a layer, the same for both faces |
| `monitor`, `sync_monitor` | the two `ReaderMonitor`s; both are written, since waiting is most of what they do |
| `queries`, `sync_queries` | `readers`, `groups` and `states`, written and generated; `blocking_queries` does the work |

`python .ci/generate_sync.py` writes the generated files.

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
