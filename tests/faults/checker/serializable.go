package main

import (
	"cmp"
	"fmt"
	"slices"
)

// judgeSerializable holds reads that need not be fresh to what they do promise: they show one state that was, one that
// was begun before the read was over, and never one older than a read of the same client (which keeps to one node) has
// shown before. What a node was told by its leader on behalf of the client does not count: the node may not have it yet.
func judgeSerializable(h *history, c *claims) []string {
	var faults []string
	shown := map[int]int64{}
	answered := slices.Clone(h.requests)
	answered = slices.DeleteFunc(answered, func(r *request) bool { return r.Answer == nil })
	slices.SortStableFunc(answered, func(a, b *request) int { return cmp.Compare(a.Called, b.Called) })
	for _, r := range answered {
		at := r.Answer.Revision
		if r.Serializable {
			if stood := c.at(at); stood == nil {
				faults = append(faults, fmt.Sprintf("shows revision %d, which never was: %s", at, r))
			} else if _, told := apply(stood, r); !sameAnswer(&told, r.Answer) {
				faults = append(faults, fmt.Sprintf("is not what revision %d held: %s", at, r))
			}
			if at < shown[r.Client] {
				faults = append(faults, fmt.Sprintf("goes back from revision %d: %s", shown[r.Client], r))
			}
			if writer := c.owner[at]; writer != nil && writer.Called > r.Returned {
				faults = append(faults, fmt.Sprintf("shows revision %d before it was asked for: %s", at, r))
			}
		}
		if len(r.Compare) == 0 && len(r.Success) == 1 && r.Success[0].Type == "range" {
			shown[r.Client] = max(shown[r.Client], at)
		}
	}
	return faults
}

// at is the state at a revision, nil when there was none.
func (c *claims) at(revision int64) *state {
	if revision == c.last.revision {
		return c.last
	}
	return c.before[revision+1]
}
