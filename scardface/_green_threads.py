"""Threads that are none: gevent's and eventlet's monkey patching is refused, before anything is started.

Both make greenlets of threads: all of them run in one thread of the machine, and a call that blocks there, as SCardGetStatusChange
does, stops the whole process for good (fact 69). Left alone, threads and queues serve such programs well: a call of the sync face
in a thread of gevent's or eventlet's own pool lets all greenlets run on. So the error says that.
"""

from __future__ import annotations

import sys
from typing import Any

_WORDS = (
    "{name} has patched {what}, so a call of PC/SC would stop the whole process: patch without them ({patch}), and call the sync "
    "face of scardface in a real thread ({call}) or in a process of its own"
)


def refuse_green_threads() -> None:
    """Called before a thread is started, and before PC/SC is used at all. It asks what is loaded, and loads nothing.

    Raises:
        RuntimeError: threads, or the queues between them, are gevent's or eventlet's; the text says what to do.
    """
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and (gevent.is_module_patched("threading") or gevent.is_object_patched("queue", "SimpleQueue")):
        patch, call = "gevent.monkey.patch_all(thread=False, queue=False)", "gevent.get_hub().threadpool.apply"
        raise RuntimeError(_WORDS.format(name="gevent", what="threads or queues", patch=patch, call=call))
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        patch, call = "eventlet.monkey_patch(thread=False)", "eventlet.tpool.execute"
        raise RuntimeError(_WORDS.format(name="eventlet", what="threads", patch=patch, call=call))
