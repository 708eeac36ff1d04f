package main

import (
	"context"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// worker is one client.
type worker struct {
	load      *load
	number    int
	client    *clientv3.Client
	all       int // operations answered, counted or not
	done      int // those without an error
	latencies []time.Duration
	errors    map[string]int
	revisions map[string]int64 // of its own keys, as it wrote them
}

func newWorker(l *load, number int, client *clientv3.Client) *worker {
	return &worker{load: l, number: number, client: client, errors: map[string]int{}, revisions: map[string]int64{}}
}

func (w *worker) loop(ctx context.Context, begin, counted, end time.Time) {
	for {
		began := w.load.due(begin)
		if began.After(end) {
			return
		}
		err := w.load.do(ctx, w.load, w)
		if errors.Is(err, errDone) {
			return
		}
		w.all++
		if err == nil {
			w.done++
		}
		now := time.Now()
		counts := !now.Before(counted) && !now.After(end)
		if w.load.rate != 0 {
			counts = !began.Before(counted)
		}
		switch {
		case !counts:
		case err != nil:
			w.errors[err.Error()]++
		default:
			w.latencies = append(w.latencies, now.Sub(began))
		}
	}
}

// result is what the runner reads. Times are milliseconds.
type result struct {
	Op      string         `json:"op"`
	Clients int            `json:"clients"`
	Conns   int            `json:"conns"`
	Ops     int            `json:"ops"`
	AllOps  int            `json:"all_ops"`
	Seconds float64        `json:"seconds"`
	PerSec  float64        `json:"ops_per_second"`
	P50     float64        `json:"p50_ms"`
	P99     float64        `json:"p99_ms"`
	Max     float64        `json:"max_ms"`
	Errors  map[string]int `json:"errors"`
	Events  *events        `json:"events,omitempty"`
}

func merge(l *load, workers []*worker, begin time.Time, elapsed time.Duration) result {
	var latencies []time.Duration
	failed := map[string]int{}
	all := 0
	for _, w := range workers {
		all += w.all
		latencies = append(latencies, w.latencies...)
		for text, count := range w.errors {
			failed[text] += count
		}
	}
	slices.Sort(latencies)
	seconds := min(elapsed, l.duration).Seconds()
	r := result{
		Op: l.op, Clients: l.clients, Conns: l.conns, Ops: len(latencies), AllOps: all, Seconds: seconds,
		P50: quantile(latencies, 0.50), P99: quantile(latencies, 0.99), Max: quantile(latencies, 1), Errors: failed,
	}
	if seconds > 0 {
		r.PerSec = float64(r.Ops) / seconds
	}
	if l.delivered != nil {
		r.Events = l.delivered.summary(begin, seconds)
	}
	return r
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[at]) / float64(time.Millisecond)
}
