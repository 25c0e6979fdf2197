"""A web page of this host's readers and cards, as they come and go: `uvicorn web_readers:app`, or `python web_readers.py`.

One monitor serves all browsers. Each gets the whole state at once and at each change, so that a tab that was closed, asleep or
cut off shows the present state as soon as it is back; what it missed does not matter.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse

from scardface import ReaderMonitor, ServiceDown, ServiceUp

PAGE = Path(__file__).with_suffix(".html")


class Board:
    """The present state, and the event that tells of the next change."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"service": True, "readers": []}
        self.changed = anyio.Event()

    def show(self, state: dict[str, Any]) -> None:
        self.state = state
        self.changed.set()
        self.changed = anyio.Event()


async def watch(board: Board) -> None:
    service = True
    async with ReaderMonitor() as monitor:
        async for event in monitor:
            service = isinstance(event, ServiceUp) or (service and not isinstance(event, ServiceDown))
            readers = [
                {"name": name, "present": state.present, "atr": state.atr.hex(" ").upper(), "mute": state.mute}
                for name, state in monitor.state.items()
            ]
            board.show({"service": service, "readers": readers})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.board = Board()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, app.state.board)
        yield
        tasks.cancel_scope.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)


@app.get("/events")
async def events() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        board = app.state.board
        while True:
            changed = board.changed  # before the state is read, so that no change is missed; several quick ones may be one
            yield f"data: {json.dumps(board.state)}\n\n"
            await changed.wait()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, timeout_graceful_shutdown=1)  # else it would wait for browsers, whose streams never end
