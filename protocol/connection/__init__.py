"""Connections to Redis: clients, topology, key names and Lua scripts."""
