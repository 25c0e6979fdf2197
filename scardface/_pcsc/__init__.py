"""PC/SC, through any binding.

- `backend` is the interface (typing.Protocol) to a PC/SC, whatever is behind it. A binding is a backend that calls the system's
  PC/SC library: `pyscard` or `ctypes_binding`. `binding_common` has what both share, `binding_choice` chooses between them.
- `reader_states` queries the state of readers, and `events` derives events from two states.
- `other_programs` lists the programs that use PC/SC; `fork_gate` and `no_copy` keep contexts and handles from being shared.
"""
