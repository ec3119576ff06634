"""One duplex connection between the core and one plugin process; the only importer of pynng.

`address` and `provider_link` are the core's side (trio), `plugin_link` the plugin's (anyio, without numpy).
"""
