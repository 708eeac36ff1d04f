// Checker judges a recorded history of an etcd-like store: is it linearizable, and is the store's log its history?
//
// It reads JSON lines (base, request, log; see history.go) and prints one JSON document with the verdict of each judge:
//
//   - log: the store's own log has no gap, every revision is exactly one request, every acknowledged write is in it;
//   - linearizable: Porcupine finds an order of the requests that etcd's rules (model.go) and the clock allow;
//   - serializable: reads that may be stale show a state that was, and never go back.
//
// The search is over the whole store, not key by key: revisions are shared by all keys, and that they are ordered is part
// of what is judged. It stays small because every answer carries its revision: in a given state at most one write and the
// reads of exactly this revision are possible, so the search branches only over reads that are under way together.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	searchLimit = 120 * time.Second
	mostFaults  = 10 // told of one judge
)

type verdict struct {
	Ok      bool     `json:"ok"`
	Seconds float64  `json:"seconds"`
	Faults  []string `json:"faults,omitempty"`
}

type report struct {
	Requests     int     `json:"requests"`
	Unanswered   int     `json:"unanswered"`
	Landed       int     `json:"landed"` // of the unanswered: those the log shows
	Revisions    int     `json:"revisions"`
	Log          verdict `json:"log"`
	Linearizable verdict `json:"linearizable"`
	Serializable verdict `json:"serializable"`
}

func main() {
	picture := flag.String("picture", "", "write Porcupine's visualization of a history that is not linearizable here")
	flag.Parse()
	h, err := readHistory(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "checker:", err)
		os.Exit(2)
	}
	told := judge(h, *picture)
	_ = json.NewEncoder(os.Stdout).Encode(told)
	if !told.Log.Ok || !told.Linearizable.Ok || !told.Serializable.Ok {
		os.Exit(1)
	}
}

func judge(h *history, picture string) report {
	told := report{Requests: len(h.requests), Revisions: len(h.log)}
	var owned *claims
	told.Log = timed(func() []string { owned = claim(h); return owned.faults })
	told.Linearizable = timed(func() []string { return judgeLinearizable(h, picture) })
	told.Serializable = timed(func() []string { return judgeSerializable(h, owned) })
	for _, r := range h.requests {
		if r.Answer == nil {
			told.Unanswered++
		}
		if r.landed != 0 {
			told.Landed++
		}
	}
	return told
}

func timed(run func() []string) verdict {
	began := time.Now()
	faults := run()
	told := verdict{Ok: len(faults) == 0, Seconds: time.Since(began).Seconds(), Faults: faults}
	told.Faults = faults[:min(len(faults), mostFaults)]
	return told
}

func etcd(first base) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return &state{first.Revision, first.KVs} },
		Step: func(before, input, _ any) (bool, any) {
			r := input.(*request)
			next, told := apply(before.(*state), r)
			if r.Answer == nil {
				return next.revision == r.landed && next.revision > before.(*state).revision, next
			}
			return sameAnswer(&told, r.Answer), next
		},
		Equal:             func(a, b any) bool { return sameState(a.(*state), b.(*state)) },
		DescribeOperation: func(input, _ any) string { return input.(*request).String() },
		DescribeState:     func(at any) string { return fmt.Sprintf("%+v", *at.(*state)) },
	}
}

// judgeLinearizable asks Porcupine. Unanswered requests that landed may take effect at any time after their call.
func judgeLinearizable(h *history, picture string) []string {
	var operations []porcupine.Operation
	for _, r := range h.requests {
		end := r.Returned
		if r.Answer == nil {
			end = math.MaxInt64
		}
		if r.Serializable || r.Answer == nil && r.landed == 0 {
			continue
		}
		operations = append(operations, porcupine.Operation{ClientId: r.Client, Input: r, Call: r.Called, Return: end})
	}
	model := etcd(h.base)
	switch porcupine.CheckOperationsTimeout(model, operations, searchLimit) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return []string{fmt.Sprintf("no order was found in %s, and not all were tried", searchLimit)}
	default:
		return explain(model, operations, picture)
	}
}

// explain tells how far an order was found, and which requests could not follow.
func explain(model porcupine.Model, operations []porcupine.Operation, picture string) []string {
	_, info := porcupine.CheckOperationsVerbose(model, operations, searchLimit)
	if picture != "" {
		if err := porcupine.VisualizePath(model, info, picture); err != nil {
			fmt.Fprintln(os.Stderr, "checker: no picture:", err)
		}
	}
	var longest []porcupine.Operation
	for _, found := range info.PartialLinearizationsOperations()[0] {
		if len(found) > len(longest) {
			longest = found
		}
	}
	placed, at := map[*request]bool{}, model.Init()
	for _, one := range longest {
		placed[one.Input.(*request)] = true
		_, at = model.Step(at, one.Input, nil)
	}
	faults := []string{fmt.Sprintf("%d of %d requests are in order, up to %+v; then none of these can follow:",
		len(longest), len(operations), *at.(*state))}
	first := int64(math.MaxInt64) // whoever was called after the first return cannot be next
	for _, one := range operations {
		if !placed[one.Input.(*request)] {
			first = min(first, one.Return)
		}
	}
	for _, one := range operations {
		if r := one.Input.(*request); !placed[r] && one.Call <= first {
			faults = append(faults, r.String())
		}
	}
	return faults
}
