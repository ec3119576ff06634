"""Protocols of other servers, so that their stock clients work here unmodified. Pure: the API brings the sockets."""
