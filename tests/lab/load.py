"""Load for a real server: connections that stay and speak now and then, and such as come and go. Standard library only.

`load.py ADDRESS PORT REQUEST STAYING SECONDS`: REQUEST is what is sent, with escapes; whatever comes back is read. A
connection that ends or answers nothing for 30 s is closed and replaced. It ends by itself.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

SILENCE = 30.0


async def once(address: str, port: int, request: bytes, turns: int, pause: float) -> None:
    """One connection with so many requests."""
    writer = None
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), SILENCE)
        for _ in range(turns):
            writer.write(request)
            if not await asyncio.wait_for(reader.read(65536), SILENCE):
                break
            await asyncio.sleep(pause * random.random() * 2)
    except (TimeoutError, OSError):
        pass
    finally:
        if writer is not None:
            writer.close()


async def again(address: str, port: int, request: bytes, turns: int, pause: float, end: float) -> None:
    """One after the other, until the time is over."""
    while time.monotonic() < end:
        await once(address, port, request, turns, pause)
        await asyncio.sleep(0.01)


async def main(address: str, port: int, request: bytes, staying: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    stay = [again(address, port, request, 1_000_000, 0.5, end) for _ in range(staying)]
    come = [again(address, port, request, 1, 0.1, end) for _ in range(10)]
    await asyncio.wait([asyncio.ensure_future(one) for one in (*stay, *come)], timeout=seconds)


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(
        main(
            words[0], int(words[1]), words[2].encode().decode("unicode_escape").encode(), int(words[3]), float(words[4])
        )
    )
