"""The two faces, which programs use: the async one (`scardface`) and the sync one (`scardface.sync`).

| module | what it is |
| --- | --- |
| `card` | what both faces of a card have in common |
| `scard` | the async `SCard`, a subclass of `async_base`: every method whose two versions differ only by `await` |
| `sync_scard` | the sync `SCard`, generated from `scard`, a subclass of `sync_base` |
| `async_base`, `sync_base` | hand-written, one for each face: running a call, waiting for the card's turn, acquiring and closing |
| `card_lock` | the lock of an open card among the tasks that use it; among threads it is an RLock |
| `routes` | sending through a logical channel or a layer, the same for both faces |
| `monitor`, `sync_monitor` | the two `ReaderMonitor`s, hand-written, since waiting is most of what they do |
| `cards`, `sync_cards` | `cards`, card after card, written and generated |
| `queries`, `sync_queries` | `readers`, `groups` and `states`, written and generated; `blocking_queries` does the work |

`python .ci/generate_sync.py` writes the generated files.

Who owns what: a card owns its acquisition until it is open, then its session (PC/SC's context and handle) and its worker (the
card's thread). A monitor owns its queue, which the driver fills. Nobody owns the driver: it ends after the last who waits.

What finalizers and signal handlers may call. By the rule of `_waiting/__init__.py`, that is what is signal-safe: in this folder
`cancel`, `cancel_all`, a card's hand-over of its close (in `__del__`, and for a block that is thrown away), `Cards.__del__`,
and the sync monitor's `close`. They call `Acquisition.cancel` and `leave`, `RemovalWait.cancel` and `leave`,
`ServedCards.leave`, `Driver.tell`, `Session.abandon_transaction`, `Worker.submit` and `finish`, `post` of a Loop and a
WaitingThread. The sync `close` is for signal handlers, too, but not for finalizers: it waits for the card's thread, unless the
handler interrupted a call of the very card, which closes it then.
"""
