"""PC/SC, through any binding.

- `backend` is the protocol (in the sense of typing) that a binding implements, `pyscard` and `ctypes_binding` implement
  it, `binding` is what these two have in common, and `default` chooses one.
- `reader_states` queries the state of readers, and `events` derives events from two states.
- `other_programs` lists the programs that use PC/SC; `fork_gate` and `no_copy` keep contexts and handles from being shared.
"""
