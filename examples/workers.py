"""Cards and processes: each worker process talks to its own reader, and the parent talks to none: `python workers.py`.

Open cards, monitors and waits belong to the process that made them, and say so in a child. So nothing is opened before the
workers start; with gunicorn, `preload_app` the same: open cards in the worker, in its lifespan or first request, never at import.
"""

import multiprocessing
import threading
from contextlib import suppress
from multiprocessing.synchronize import Event

from scardface.sync import SCard, WaitCancelledError, cancellable, readers


def work(reader: str, stop: Event) -> None:
    """Card after card in one reader, until the parent sets `stop`."""
    with suppress(WaitCancelledError), cancellable() as scope:
        threading.Thread(target=lambda: (stop.wait(), scope.cancel()), daemon=True).start()
        while True:
            with SCard(reader, wait_for_reader=True) as card:
                print(reader, card.atr.hex(" "), flush=True)
                card.wait()


def main() -> None:
    context = multiprocessing.get_context("spawn")  # "fork" works on Linux, too, as long as nothing is open in the parent
    stop = context.Event()
    workers = [context.Process(target=work, args=(name, stop)) for name in readers()]
    for worker in workers:
        worker.start()
    try:
        input("Enter ends it\n")
    finally:
        stop.set()
        for worker in workers:
            worker.join()


if __name__ == "__main__":
    main()
