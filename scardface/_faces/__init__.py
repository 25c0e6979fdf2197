"""What users touch: the async face and the sync face.

- `scard` and `calls` are the async `SCard`, `monitor` the async `ReaderMonitor`; `sync_calls` and `sync_monitor` are theirs of the
  sync face, whose `SCard` stands in `scardface.sync`.
- `card` and `routes` are what both have in common, `card_lock` is whose turn it is among the tasks that use a card.
- `queries` is one look at PC/SC without a monitor.
"""
