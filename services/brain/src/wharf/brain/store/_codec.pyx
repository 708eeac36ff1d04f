# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Bytes of the write path: KeyValues, events, the batch being filled, and kube-apiserver's transactions from request to response.

A create costs one pass over the request, one lookup and a handful of allocations here; the same transaction through message
objects costs ten times as much. Decisions are the ones `txn.py` takes; the tests hold both ways against each other.

Invariant: whatever `KubeLane` does not recognise exactly, it leaves untouched for the generic path.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from wharf.brain.errors import LeaseNotFound, NoSpace
from wharf.brain.store.keys import hkey, is_long, skey

include "_kv.pxi"
include "_pending.pxi"
include "_kube.pxi"
