"""What a reader offers besides exchanging commands with a card (PC/SC part 10), without I/O.

- `attributes` and `features` are those of the reader's driver; `control_exchange` runs several control commands as one exchange.
- `pin_entry` and `pin_pad` are PIN entry on its keypad; `contactless` reads the UID and ATS of a contactless card.
"""
