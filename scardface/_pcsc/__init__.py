"""What PC/SC offers, by whichever binding.

- `backend` is the protocol that a binding implements, `pyscard` the one there is, `default` which one is meant.
- `reader_states` asks for the state of readers, and `events` says what happened between two answers.
- `other_programs` finds who else uses PC/SC; `fork_gate` and `ownership` keep contexts and handles from being shared.
"""
