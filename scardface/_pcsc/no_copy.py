"""Objects that own a handle, a process or a file to write cannot be copied: each of two owners would close it.

Rules:

- Such a class has `refuse_copy` as its `__reduce_ex__`, or calls it there: copy, deepcopy and pickle all use that.
"""

from __future__ import annotations

from typing import NoReturn


def refuse_copy(self: object, protocol: object) -> NoReturn:
    """The `__reduce_ex__` of a class whose objects are not copied.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"a {type(self).__name__} owns a resource that a copy cannot share: it can be neither copied nor pickled")
