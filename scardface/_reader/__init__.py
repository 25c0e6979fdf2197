"""What a reader can do besides carry commands (PC/SC part 10); no I/O.

- `attributes` are its attributes, `features` what its driver offers, `control_exchange` how several control commands make one step.
- `pin_entry` and `pin_pad` are PIN entry on its keypad; `contactless` is what it knows of a contactless card.
"""
