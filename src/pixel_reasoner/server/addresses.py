"""Which network addresses pictures may be fetched from: only public ones."""

from __future__ import annotations

import ipaddress

_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/96",  # unspecified, loopback, IPv4-compatible
            "64:ff9b::/96",  # NAT64: contains an IPv4 address
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",  # Teredo and others
            "2001:db8::/32",
            "2002::/16",  # 6to4: contains an IPv4 address
            "3fff::/20",
            "5f00::/16",
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)


def is_public(address: str) -> bool:
    """Return whether an IP address is reachable on the public internet. Mapped IPv6 is judged as IPv4.

    >>> [is_public(one) for one in ("93.184.216.34", "127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "localhost")]
    [True, False, False, False, False]
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
    in_listed = any(ip.version == one.version and ip in one for one in _NOT_PUBLIC)
    return ip.is_global and not in_listed
