"""Reading the headers of proxies, as pure functions of the headers."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.middleware.forwarded_headers import Forwarded, read_forwarded
from service.network_addresses import Address, parse_address, parse_network

PROXIES = ("10.0.0.0/8", "fd00::/8")


def is_trusted(address: Address) -> bool:
    return any(address in ip_network(network) for network in PROXIES)


def read(*lines: tuple[str, str]) -> Forwarded:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in lines]
    return read_forwarded(Headers(raw=raw), is_trusted)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),  # the left one may be forged
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),  # the client is in the network of the proxies
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
        ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),  # hidden by the proxy at 10.0.0.2
        ("10.0.0.2, <script>", None),
        ("unknown", None),
        ("", None),
        (",,", None),
        ("999.0.0.1", None),
    ],
)
def test_client_is_the_last_address_that_is_no_proxy(value: str, client: str | None) -> None:
    expected = ip_address(client) if client else None
    assert read(("X-Forwarded-For", value)).client == expected


def test_lines_of_a_header_are_one_list() -> None:
    forwarded = read(("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "10.0.0.2"))
    assert forwarded.client == ip_address("192.0.2.1")


@pytest.mark.parametrize(
    ("addresses", "schemes", "scheme"),
    [
        ("192.0.2.1", "https", "https"),
        ("192.0.2.1", "HTTPS", "https"),
        ("192.0.2.1, 10.0.0.2", "https, http", "https"),
        ("192.0.2.1, 10.0.0.2", "https", "https"),  # replaced by the nearest proxy
        ("192.0.2.1", "https, http", "http"),  # the left one may be forged
        ("", "https, http", "http"),
        ("192.0.2.1", "javascript", None),
        ("192.0.2.1", "", None),
    ],
)
def test_scheme_is_that_of_the_outermost_proxy(
    addresses: str, schemes: str, scheme: str | None
) -> None:
    lines = (("X-Forwarded-For", addresses), ("X-Forwarded-Proto", schemes))
    assert read(*lines).scheme == scheme


@pytest.mark.parametrize(
    ("value", "client", "scheme", "host"),
    [  # the first are examples of RFC 7239
        ('for="_gazonk"', None, None, None),
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17", None, None),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60", "http", None),
        ("for=192.0.2.43, for=10.51.100.17", "192.0.2.43", None, None),
        ("For=192.0.2.43;Proto=HTTPS;host=A.example", "192.0.2.43", "https", "A.example"),
        ('for=192.0.2.43;host="a.example:8443"', "192.0.2.43", None, "a.example:8443"),
        ('for="192.0.2.43:_port"', "192.0.2.43", None, None),
        (r'for="192.0.2.\43"', "192.0.2.43", None, None),
        ("for=192.0.2.43:4711;;, ", "192.0.2.43", None, None),  # not the grammar, but common
        ("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http", "192.0.2.1", "https", None),
        ("proto=https, for=192.0.2.1;proto=http", "192.0.2.1", "http", None),
        ('for="forged, for=192.0.2.1', "192.0.2.1", None, None),
        ('for="forged, for="[2001:db8::1]"', "2001:db8::1", None, None),
        ("nonsense", None, None, None),
        ('for="', None, None, None),
    ],
)
def test_forwarded_header(
    value: str, client: str | None, scheme: str | None, host: str | None
) -> None:
    expected = Forwarded(ip_address(client) if client else None, scheme, host)
    assert read(("Forwarded", value)) == expected


def test_x_forwarded_headers_win() -> None:
    """A proxy that writes these may pass on the other one as its client sent it."""
    forged = ("Forwarded", "for=203.0.113.9;host=evil.example;proto=https")
    assert read(forged, ("X-Forwarded-For", "192.0.2.1")) == Forwarded(ip_address("192.0.2.1"))


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        ("/darkroom", "/darkroom"),
        ("/darkroom/", "/darkroom"),
        ("/outer, /inner", "/outer/inner"),
        ("/", ""),
        ("//evil.example", ""),
        ("/a, //evil.example", ""),
        ("/..", ""),
        ('/"onload=x', ""),
        ("https://evil.example", ""),
    ],
)
def test_prefixes_are_joined(value: str, prefix: str) -> None:
    assert read(("X-Forwarded-Prefix", value)).prefix == prefix


ADDRESSES = (
    st.ip_addresses().map(str).map(parse_address).filter(lambda one: one and not is_trusted(one))
)
HOPS = st.lists(
    st.ip_addresses(network=PROXIES[0]) | st.ip_addresses(network=PROXIES[1]), max_size=9
)


@given(ADDRESSES, HOPS, st.lists(st.text("0123456789.,:_[]\"';= for", max_size=20), max_size=3))
def test_nothing_a_client_sends_changes_its_address(
    client: Address, hops: list[Address], forged: list[str]
) -> None:
    """Proxies append, in either header, to whatever the client has sent."""
    chain = [client, *hops]
    listed = ", ".join([*forged, *map(str, chain)])
    assert read(("X-Forwarded-For", listed)).client == client
    nodes = [f'for="[{one}]"' if one.version == 6 else f"for={one}" for one in chain]
    for line in (", ".join(nodes), *(f"{text}, {', '.join(nodes)}" for text in forged)):
        assert read(("Forwarded", line)).client == client


NAMES = ("For", "Proto", "Host", "Prefix")


@given(
    st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(max_codepoint=255))), st.text()
)
def test_any_text_is_read(values: dict[str, str], text: str) -> None:
    lines = [(f"X-Forwarded-{name}", value) for name, value in values.items()]
    read(*lines)
    read(("Forwarded", text.encode().decode("latin-1")))


def test_networks_have_one_spelling() -> None:
    assert parse_network("::ffff:10.0.0.0/104") == ip_network("10.0.0.0/8")
    assert parse_address("fe80::1%eth0") == ip_address("fe80::1")
    for text in ("10.0.0.1/8", "*", "localhost", "10.0.0.0/33", "", "proxy.example"):
        with pytest.raises(ValueError, match="an IP address"):
            parse_network(text)
