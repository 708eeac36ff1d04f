package main

import (
	"slices"
	"strings"
)

// state is the whole store between two requests: values are never changed in place.
type state struct {
	revision int64
	kvs      []kv // in key order
}

func (s *state) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.kvs, key, func(have kv, want string) int { return strings.Compare(have.Key, want) })
}

func (s *state) within(key, end string) []kv {
	from, exact := s.find(key)
	if end == "" {
		if exact {
			return s.kvs[from : from+1]
		}
		return nil
	}
	to, _ := s.find(end)
	return s.kvs[from:max(from, to)]
}

// apply says what etcd answers to r in state s, and the state afterwards.
func apply(s *state, r *request) (*state, answer) {
	next := &state{s.revision, s.kvs}
	told := answer{Succeeded: holds(s, r.Compare)}
	operations := r.Success
	if !told.Succeeded {
		operations = r.Failure
	}
	for _, one := range operations {
		told.Outcomes = append(told.Outcomes, next.do(one, s.revision+1))
	}
	told.Revision = next.revision
	return next, told
}

func holds(s *state, compares []compare) bool {
	for _, one := range compares {
		var mod int64
		if at, found := s.find(one.Key); found {
			mod = s.kvs[at].Mod
		}
		if mod != one.Mod {
			return false
		}
	}
	return true
}

// do runs one operation of the request that makes the revision given, if it makes one.
func (s *state) do(one operation, revision int64) outcome {
	switch one.Type {
	case "put":
		return s.put(one, revision)
	case "delete":
		return s.remove(one, revision)
	}
	found := s.within(one.Key, one.End)
	told := outcome{Count: int64(len(found))}
	if one.CountOnly {
		return told
	}
	if one.Limit > 0 && len(found) > one.Limit {
		found, told.More = found[:one.Limit], true
	}
	told.KVs = found
	return told
}

func (s *state) put(one operation, revision int64) outcome {
	var told outcome
	fresh := kv{one.Key, one.Value, revision, revision, 1}
	at, found := s.find(one.Key)
	if found {
		before := s.kvs[at]
		fresh.Create, fresh.Version = before.Create, before.Version+1
		s.kvs = slices.Clone(s.kvs)
		s.kvs[at] = fresh
		if one.Prev {
			told.Prev = []kv{before}
		}
	} else {
		s.kvs = slices.Insert(slices.Clone(s.kvs), at, fresh)
	}
	s.revision = revision
	return told
}

func (s *state) remove(one operation, revision int64) outcome {
	gone := slices.Clone(s.within(one.Key, one.End))
	told := outcome{Deleted: int64(len(gone))}
	if len(gone) == 0 {
		return told
	}
	if one.Prev {
		told.Prev = gone
	}
	from, _ := s.find(gone[0].Key)
	s.kvs = slices.Delete(slices.Clone(s.kvs), from, from+len(gone))
	s.revision = revision
	return told
}

func sameAnswer(a, b *answer) bool {
	return a.Revision == b.Revision && a.Succeeded == b.Succeeded &&
		slices.EqualFunc(a.Outcomes, b.Outcomes, func(x, y outcome) bool {
			return x.Count == y.Count && x.More == y.More && x.Deleted == y.Deleted &&
				slices.Equal(x.KVs, y.KVs) && slices.Equal(x.Prev, y.Prev)
		})
}

func sameState(a, b *state) bool {
	return a == b || a.revision == b.revision && slices.Equal(a.kvs, b.kvs)
}
