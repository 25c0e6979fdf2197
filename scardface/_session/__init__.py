"""One open card, blocking.

- `card_request` holds the criteria of an acquisition, checked once; `connect` opens the card, `card_errors` translates errors for
  it.
- `session` is the open card: `exchanger` exchanges its commands, `transactions` holds its transaction, `session_lock` admits one
  call at a time and takes the request to close.
- `serials` finds readers by their serial numbers.
"""
