package main

import (
	"fmt"
	"slices"
)

// claims gives every revision of the log to the request that made it.
//
// Values are unique in a history, so an answered write is known by its revision and an unanswered one by its values.
// Only unanswered deletes have no value: they are matched with the deletes that nobody else has made.
// What the log does not show of an unanswered write never happened, and the search need not try it: leaving out a
// request that was not answered is one of the completions that linearizability allows, and any completion the log rules
// out would be a fault of the log.
type claims struct {
	log    map[int64]entry
	before map[int64]*state // what stood when the revision was made
	owner  map[int64]*request
	last   *state
	faults []string
}

func claim(h *history) *claims {
	c := &claims{map[int64]entry{}, map[int64]*state{}, map[int64]*request{}, nil, nil}
	c.replay(h)
	var answered, unanswered []*request
	for _, r := range h.requests {
		if r.Answer == nil {
			unanswered = append(unanswered, r)
			continue
		}
		answered = append(answered, r)
		if changes := effects(r, r.Answer); len(changes) > 0 {
			c.take(r, r.Answer.Revision, changes)
		}
	}
	c.byValue(unanswered)
	c.byDelete(unanswered, c.firstHeard(answered))
	for _, one := range h.log {
		if c.owner[one.Revision] == nil {
			c.fault("revision %d was made by nobody: %+v", one.Revision, one.Events)
		}
	}
	return c
}

func (c *claims) fault(format string, arguments ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, arguments...))
}

// replay checks the log by itself: no gap, and every event follows from what was before.
func (c *claims) replay(h *history) {
	at := &state{h.base.Revision, h.base.KVs}
	for _, one := range h.log {
		if one.Revision != at.revision+1 {
			c.fault("the log goes from revision %d to %d", at.revision, one.Revision)
			at = &state{one.Revision - 1, at.kvs}
		}
		c.log[one.Revision], c.before[one.Revision] = one, at
		next := &state{at.revision, at.kvs}
		for _, change := range one.Events {
			next.do(operation{Type: change.Type, Key: change.KV.Key, Value: change.KV.Value}, one.Revision)
			where, live := next.find(change.KV.Key)
			if live && next.kvs[where] != change.KV || live != (change.Type == "put") {
				c.fault("revision %d of the log does not follow from the one before: %+v", one.Revision, change)
			}
		}
		if next.revision != one.Revision {
			c.fault("revision %d of the log changes nothing", one.Revision)
			next.revision = one.Revision
		}
		at = next
	}
	c.last = at
}

// effects are the changes an answered request has made, by key.
func effects(r *request, told *answer) map[string]string {
	operations := r.Success
	if !told.Succeeded {
		operations = r.Failure
	}
	changes := map[string]string{}
	for at, one := range operations {
		switch {
		case one.Type == "put":
			changes[one.Key] = "put " + one.Value
		case one.Type == "delete" && at < len(told.Outcomes) && told.Outcomes[at].Deleted > 0:
			changes[one.Key] = "delete"
			if one.End != "" { // then its previous values are asked for
				delete(changes, one.Key)
			}
			for _, gone := range told.Outcomes[at].Prev {
				changes[gone.Key] = "delete"
			}
		}
	}
	return changes
}

// take gives a revision to an answered request.
func (c *claims) take(r *request, revision int64, changes map[string]string) {
	made, found := c.log[revision]
	switch {
	case !found:
		c.fault("acknowledged at revision %d, and the log does not have it: %s", revision, r)
	case c.owner[revision] != nil:
		c.fault("revision %d was acknowledged to two requests: %s and %s", revision, c.owner[revision], r)
	case !c.agrees(made, changes):
		c.fault("revision %d of the log, %+v, is not what was acknowledged with it: %s", revision, made.Events, r)
	}
	c.owner[revision] = r
}

func (c *claims) agrees(made entry, changes map[string]string) bool {
	for _, change := range made.Events {
		told := "delete"
		if change.Type == "put" {
			told = "put " + change.KV.Value
		}
		if changes[change.KV.Key] != told {
			return false
		}
	}
	return len(made.Events) == len(changes)
}

// byValue finds the unanswered requests that put something.
func (c *claims) byValue(unanswered []*request) {
	made := map[string]int64{}
	for revision, one := range c.log {
		for _, change := range one.Events {
			if change.Type != "put" {
				continue
			}
			if first := made[change.KV.Value]; first != 0 && first != revision {
				c.fault("%q was written twice, at revisions %d and %d", change.KV.Value, first, revision)
			}
			made[change.KV.Value] = revision
		}
	}
	for _, r := range unanswered {
		revision := int64(0)
		for _, one := range slices.Concat(r.Success, r.Failure) {
			if one.Type == "put" && made[one.Value] != 0 {
				revision = made[one.Value]
			}
		}
		if revision == 0 {
			continue
		}
		if _, told := apply(c.before[revision], r); !c.agrees(c.log[revision], effects(r, &told)) {
			c.fault("revision %d holds a part of a request, or it must not have succeeded there: %s", revision, r)
		}
		if c.owner[revision] != nil {
			c.fault("revision %d belongs to %s and to %s", revision, c.owner[revision], r)
		}
		r.landed, c.owner[revision] = revision, r
	}
}

// byDelete matches unanswered pure deletes with the deletes left over: a maximum bipartite matching by augmenting paths.
//
// Unanswered requests may take effect at any time after their call, so the one that called first is tried first, and any
// matching in which each revision was possible (called before anybody heard of a later revision) is as good as another.
func (c *claims) byDelete(unanswered []*request, heard func(revision int64) int64) {
	var open []int64
	for revision := range c.log {
		if c.owner[revision] == nil {
			open = append(open, revision)
		}
	}
	slices.Sort(open)
	fits := func(revision int64, r *request) bool {
		if r.landed != 0 || len(r.Success) != 1 || r.Success[0].Type != "delete" || r.Called > heard(revision) {
			return false
		}
		_, told := apply(c.before[revision], r)
		return told.Revision == revision && c.agrees(c.log[revision], effects(r, &told))
	}
	given := map[*request]int64{}
	var augment func(revision int64, seen map[*request]bool) bool
	augment = func(revision int64, seen map[*request]bool) bool {
		for _, r := range unanswered {
			if seen[r] || !fits(revision, r) {
				continue
			}
			seen[r] = true
			if other, taken := given[r]; !taken || augment(other, seen) {
				given[r] = revision
				return true
			}
		}
		return false
	}
	for _, revision := range open {
		augment(revision, map[*request]bool{})
	}
	for r, revision := range given {
		r.landed, c.owner[revision] = revision, r
	}
}

// firstHeard tells the earliest time at which somebody had an answer from this revision or a later one.
func (c *claims) firstHeard(answered []*request) func(revision int64) int64 {
	earliest := map[int64]int64{}
	for _, r := range answered {
		if told, found := earliest[r.Answer.Revision]; !found || r.Returned < told {
			earliest[r.Answer.Revision] = r.Returned
		}
	}
	heard, soonest := map[int64]int64{}, int64(1<<62)
	for revision := c.last.revision; c.before[revision] != nil; revision-- {
		if at, found := earliest[revision]; found {
			soonest = min(soonest, at)
		}
		heard[revision] = soonest
	}
	return func(revision int64) int64 { return heard[revision] }
}
