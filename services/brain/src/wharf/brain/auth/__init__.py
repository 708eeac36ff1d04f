"""Users, roles and tokens as etcd has them.

`shapes`, `rules`, `state`, `records` and `tokens` are pure: who there is, what they may do, what a change makes of it,
how it is stored, how a token is made and read. `passwords` and `book` are the shells: slow hashing off the loop, and
the one live state of a node.
"""
