"""Plugins of the vLLM server: adapters by name, held against the base that runs, and tags that are followed.

`resolver` answers `model="sql-lora@prod"` when it is asked for; `follower` keeps configured names at what their stage
points to. Both speak to a registry server (ADAPTERS_URL), and neither imports vLLM before vLLM asks it to.
"""
