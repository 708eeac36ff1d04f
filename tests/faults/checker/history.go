package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// kv is a live key as a response shows it.
type kv struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Create  int64  `json:"create"`
	Mod     int64  `json:"mod"`
	Version int64  `json:"version"`
}

// operation is one part of a request: a range, a put or a delete.
type operation struct {
	Type      string `json:"type"`
	Key       string `json:"key"`
	End       string `json:"end,omitempty"` // empty: this key alone
	Value     string `json:"value,omitempty"`
	Limit     int    `json:"limit,omitempty"`
	CountOnly bool   `json:"count_only,omitempty"`
	Prev      bool   `json:"prev,omitempty"`
}

// compare asks whether a key was last changed at a revision; 0: whether it is absent.
type compare struct {
	Key string `json:"key"`
	Mod int64  `json:"mod"`
}

// outcome is what one operation answered.
type outcome struct {
	KVs     []kv  `json:"kvs,omitempty"`
	Count   int64 `json:"count,omitempty"`
	More    bool  `json:"more,omitempty"`
	Deleted int64 `json:"deleted,omitempty"`
	Prev    []kv  `json:"prev,omitempty"`
}

// answer is the response to a request.
type answer struct {
	Revision  int64     `json:"revision"`
	Succeeded bool      `json:"succeeded"`
	Outcomes  []outcome `json:"outcomes,omitempty"`
}

// request is one call of a client. A plain call is a transaction without compares.
type request struct {
	Client       int         `json:"client"`
	Node         string      `json:"node"`
	Serializable bool        `json:"serializable,omitempty"`
	Called       int64       `json:"called"`   // nanoseconds of one clock
	Returned     int64       `json:"returned"` // when the answer was there
	Compare      []compare   `json:"compare,omitempty"`
	Success      []operation `json:"success"`
	Failure      []operation `json:"failure,omitempty"`
	Answer       *answer     `json:"answer,omitempty"` // nil: nobody knows what became of it

	landed int64 // of an unanswered write: the revision the log shows it at
}

// event is a change as the log shows it.
type event struct {
	Type string `json:"type"` // put or delete
	KV   kv     `json:"kv"`
}

type entry struct {
	Revision int64   `json:"revision"`
	Events   []event `json:"events"`
}

type base struct {
	Revision int64 `json:"revision"`
	KVs      []kv  `json:"kvs"`
}

// history is everything that was recorded.
type history struct {
	base     base
	requests []*request
	log      []entry
}

func readHistory(from io.Reader) (*history, error) {
	h := &history{base: base{Revision: 1}}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 64<<20)
	for number := 1; lines.Scan(); number++ {
		var line struct {
			Base    *base    `json:"base"`
			Request *request `json:"request"`
			Log     *entry   `json:"log"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		switch {
		case line.Base != nil:
			h.base = *line.Base
		case line.Request != nil:
			h.requests = append(h.requests, line.Request)
		case line.Log != nil:
			h.log = append(h.log, *line.Log)
		default:
			return nil, fmt.Errorf("line %d is none of base, request, log", number)
		}
	}
	return h, lines.Err()
}

func (r *request) String() string {
	text, _ := json.Marshal(r)
	return string(text)
}
