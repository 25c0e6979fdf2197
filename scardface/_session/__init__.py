"""One open card, blocking.

- `card_request` is which card is wanted, checked once; `connect` opens it, `card_state` says what an error means for it.
- `session` is the open card: `exchanger` carries its commands, `transactions` holds its transaction, `session_lock` lets one call
  in at a time and takes the order to close.
- `serials` finds readers by their serial number.
"""
