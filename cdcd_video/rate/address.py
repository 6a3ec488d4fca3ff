"""The address that the page is served on, and the links to it."""

import ipaddress
import socket
from urllib.parse import urlsplit

from cdcd_video.errors import UserError

_FAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses reserved for documentation: finding the route to them sends nothing."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server bound to this address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_this_machine(header: str) -> bool:
    """Whether a Host header names this machine by a loopback address or as localhost.

    Any other name may belong to a web page that makes it resolve to this machine (DNS rebinding).
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return not set(header) & set("@/?#\\") and is_local(name)


def listen(host: str, port: int) -> socket.socket:
    """Opens the port, so that an error comes before the server starts.

    Args:
      host: an address or a name of this machine; 0.0.0.0 or :: for all its addresses.
      port: 0 for any free one.

    Raises:
      UserError: the address is not one of this machine or cannot be part of a link, or the port is taken.
    """
    if not host.strip():
        raise UserError("--host is empty; set 127.0.0.1 for this machine alone, or 0.0.0.0 for all its networks")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "/" in bare or bare.count(":") == 1:
        raise UserError(f"--host {host} is more than an address; set the address alone, and the port by --port")
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port is {port}; it must be 0 to 65535")
    if _is_of_one_link(bare):
        raise UserError(f"--host {host} is a link-local address, which browsers do not open; set another one")
    try:
        found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, dualstack_ipv6=dual)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot serve on {host}:{port} ({reason}); choose another --host or --port") from error


def links(opened: socket.socket) -> list[str]:
    """Links to the server; the one that other machines can use is first.

    Args:
      opened: of `listen`; if bound to all addresses, the links have those of this machine.
    """
    bound, port = opened.getsockname()[:2]
    hosts = [bound]
    if ipaddress.ip_address(bound).is_unspecified:
        families = [socket.AF_INET] if opened.family == socket.AF_INET else [socket.AF_INET, socket.AF_INET6]
        if opened.family == socket.AF_INET6 and opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            families = [socket.AF_INET6]
        near = "127.0.0.1" if socket.AF_INET in families else "::1"
        hosts = list(dict.fromkeys([*filter(None, map(_own_address, families)), near]))
    return [f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/" for host in hosts]


def _is_of_one_link(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "%" in host
    return address.version == 6 and address.is_link_local


def _own_address(family: socket.AddressFamily) -> str | None:
    """The address of this machine in its network; None without a network."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((_FAR[family], 9))
            return asked.getsockname()[0]
    except OSError:
        return None
