"""IP addresses and networks, with IPv4 in one spelling.

A socket that serves both families gives an IPv4 client as an IPv6 address, `::ffff:192.0.2.1`
(RFC 4291, section 2.5.5.2). Here it is the IPv4 address.
"""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAPPED_PREFIX = 96  # bits in front of the IPv4 address in a mapped one


def parse_address(text: str) -> Address | None:
    """Return the address that `text` spells, without its zone; None for a name or a mistake."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network:
    """Return the network that an address or a CIDR block names.

    Raises `ValueError` for anything else, also for a block with bits set after its prefix.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            "an IP address, or a network without host bits, as in 10.0.0.0/8"
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - MAPPED_PREFIX))


def is_loopback(host: str) -> bool:
    """Return True if only this machine can connect to `host`, an address or a name."""
    if address := parse_address(host):
        return address.is_loopback
    return host.lower() == "localhost"  # the only name that is a loopback by definition (RFC 6761)
