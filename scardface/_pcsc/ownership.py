"""What owns a handle, a process or a file to write is not copied: two owners would each close it, at a time of their own.

Rules:

- A class that owns such a thing has `refuse_copy` as its `__reduce_ex__`, or calls it there: that is what copy, deepcopy and pickle
  all ask for first.
"""

from __future__ import annotations

from typing import NoReturn


def refuse_copy(self: object, protocol: object) -> NoReturn:
    """The `__reduce_ex__` of a class whose objects are not copied.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"a {type(self).__name__} owns what cannot be shared by a copy: it can be neither copied nor pickled")
