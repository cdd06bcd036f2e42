"""The GPU engine: ExLlamaV2's dynamic generator in a process of its own.

`engine` is the engine as the service sees it. It speaks to two children (`child`): `host`, which runs a `generator`
(today `v2`; only the files that begin so know the package exllamav2), and `template`, which runs the chat template.
"""
