"""Offers to change the protocol of a connection, on top of uvicorn's protocol class.

uvicorn drops the body of a request that offers an upgrade. An offer of a WebSocket is taken where
there is one; any other is ignored.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.websocket_protocol import PATH_END


class UpgradableHttpProtocol(HttpToolsProtocol):
    """One connection, whose requests are read as if they offered nothing but a WebSocket.

    `self.cycle` is the latest request of the connection and its response.
    """

    def parse(self, data: memoryview) -> None:
        """Pass `data` to the parser, which stops after a head that offers an upgrade."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                data = data[stop.args[0] :]
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                if self.offers_upgrade():
                    self._parse_without_upgrade()
            else:
                return

    def offers_upgrade(self) -> bool:
        """Return True if the head that was parsed last offers an upgrade."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def is_idle(self) -> bool:
        """Return True if no request awaits its response."""
        return self.cycle is None or self.cycle.response_complete

    def on_headers_complete(self) -> None:
        if not self.offers_upgrade() or self._should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.offers_upgrade():
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Return True for an offer of a WebSocket where there is one, which only GET can make.

        Not behind a request that has no response yet: that is sent by this protocol.
        """
        path = self.url.partition(b"?")[0]
        is_get = self.parser.get_method() == b"GET"
        return is_get and path.endswith(PATH_END) and self.is_idle() and super()._should_upgrade()

    def _parse_without_upgrade(self) -> None:
        """Parse the same head again without `Upgrade`, which a server may ignore (RFC 9110, 7.8).

        Clients offer HTTP/2 with any request, and its body follows as if they had not.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        # This parser reads nothing more if the connection is to be closed after the request.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"\r\n".join(head) + b"\r\n\r\n")
