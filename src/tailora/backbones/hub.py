"""Check once and quickly whether the model hub can be reached.

Without a network the hub's client retries for about 25 seconds.
"""

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants

_SECONDS = 3.0
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = {"1", "ON", "YES", "TRUE"}


def hub_is_reachable() -> bool:
    """Try one connection to the hub, or to its proxy.

    False at once if `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set.
    """
    if any(os.environ.get(name, "").upper() in _YES for name in _OFFLINE):
        return False
    host, port = _first_hop()
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError:
        return False
    return True


def _first_hop() -> tuple[str, int]:
    """Return host and port that a request to the hub connects to first."""
    hub = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(hub.scheme)
    if proxy and not proxy_bypass(hub.hostname or ""):
        hub = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return hub.hostname or "", hub.port or (443 if hub.scheme == "https" else 80)
