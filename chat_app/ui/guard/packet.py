"""A packet of Socket.IO as a page sends it. Anything else that the protocol knows ends the connection."""

from socketio.packet import CONNECT, DISCONNECT, EVENT, Packet

NAMESPACE = "/_event"
EVENTS = frozenset({"event", "client_error", "ping"})
"""What a page sends. The library would take `connect` from a client too, with an environment of its own making."""


class PagePacket(Packet):
    """Of attachments, the library would gather as many as a client announces: a page sends none."""

    def decode(self, encoded_packet: str) -> int:
        """Read a packet; one that no page sends says that its client leaves."""
        try:
            super().decode(encoded_packet)  # type: ignore[no-untyped-call]
            fine = self._is_of_a_page()
        except (ValueError, TypeError, RecursionError):
            fine = False
        if not fine:
            self.packet_type, self.namespace, self.id, self.data = DISCONNECT, NAMESPACE, None, None
        return 0

    def _is_of_a_page(self) -> bool:
        if self.namespace != NAMESPACE or self.id is not None:
            return False
        if self.packet_type == EVENT:
            match self.data:
                case [str(name)] | [str(name), _]:
                    return name in EVENTS
                case _:
                    return False
        return self.packet_type in (CONNECT, DISCONNECT)
